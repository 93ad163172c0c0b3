"""A member's network: built by the name of its backbone, begun with the weights it asks for."""

from server_models.architecture import Architecture
from server_models.config import MemberConfig
from server_models.edge_net import SPECS, EdgeNet
from server_models.gallery_model import GalleryModel, TrainedGallery
from server_models.lite_net import LiteNet
from server_models.starters import load_starter


def build(member: MemberConfig, dim: int) -> EdgeNet | LiteNet:
    """(N, 3, S, S) -> (N, D), with random weights."""
    if isinstance(member.backbone, Architecture):
        return EdgeNet(member.backbone, dim)
    if member.backbone == "kin-s" or member.backbone == "kin-m":
        return EdgeNet(SPECS[member.backbone], dim)
    return LiteNet(member.backbone, dim)


def begin(net: EdgeNet | LiteNet, member: MemberConfig, gallery_model: GalleryModel) -> None:
    """Fill ``net`` with what ``member.start`` names; `FamilyConfig` has checked that it fits."""
    if isinstance(net, EdgeNet) and member.start == "starter":
        load_starter(str(member.backbone), net)
    elif isinstance(net, LiteNet) and member.start == "imagenet":
        net.load_imagenet()
    elif member.start == "cloud" and isinstance(gallery_model, TrainedGallery):
        net.load_state_dict(gallery_model.net.state_dict())
