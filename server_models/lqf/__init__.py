"""Linear quadratic fine-tuning (LQF, arXiv:2012.11140): adapt a network by solving, not by descent.

`tangent` is a network linearised at its weights, `fit` solves for the optimum of a square loss with
a pull to those weights, `kernel` makes that fast and says in closed form what each image did.
"""
