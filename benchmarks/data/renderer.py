"""Headless drawing of a Mesh with OpenGL (moderngl on EGL): a view in, an RGBA image out.

A kept library was tried before writing a rasteriser, and it does: Mesa's software driver gives
textures with mipmaps, alpha, multisampling and per-pixel light at a few milliseconds a view on one
core, with no display and no GPU. The software driver is forced, single-threaded, so that a graphics
card's presence changes no pixel. Bytes repeat exactly on one Mesa version; across versions expect
differences in the last bit.
"""

import os
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks.data.mesh import Floats, Mesh

os.environ.setdefault("LIBGL_ALWAYS_SOFTWARE", "1")
os.environ.setdefault("LP_NUM_THREADS", "0")
os.environ.setdefault("EGL_PLATFORM", "surfaceless")

import moderngl

SUPERSAMPLE = 2  # pixels drawn per pixel kept, each way, on top of 4 samples a pixel
_VERTEX = """
#version 330 core
uniform mat4 to_clip;
in vec3 position; in vec3 normal; in vec2 uv;
out vec3 at; out vec3 facing; out vec2 where;
void main() {
    at = position; facing = normal; where = uv;
    gl_Position = to_clip * vec4(position, 1);
}
"""
_FRAGMENT = """
#version 330 core
uniform sampler2D image; uniform bool textured; uniform vec4 diffuse; uniform vec4 specular;
uniform vec3 eye; uniform vec3 key_direction; uniform vec3 key_colour;
uniform vec3 sky_colour; uniform vec3 ground_colour; uniform float cutoff;
in vec3 at; in vec3 facing; in vec2 where;
out vec4 colour;
void main() {
    vec4 albedo = diffuse;
    if (textured) albedo *= texture(image, where);
    if (albedo.a < cutoff) discard;
    vec3 n = normalize(facing), v = normalize(eye - at);
    if (dot(n, v) < 0) n = -n;  // seen from behind: many models have unoriented faces
    vec3 light = mix(ground_colour, sky_colour, n.y * 0.5 + 0.5)
               + key_colour * max(dot(n, key_direction), 0);
    float gleam = pow(max(dot(n, normalize(v + key_direction)), 0), max(specular.a, 4.0));
    colour = vec4(albedo.rgb * light + specular.rgb * key_colour * gleam * 0.5, albedo.a);
}
"""


@dataclass(frozen=True)
class Light:
    """One far key light over a sky-to-ground ambient. Colours are RGB factors, 1 is full."""

    key_direction: tuple[float, float, float]  # from the object to the light, any length
    key_colour: tuple[float, float, float]
    sky_colour: tuple[float, float, float]
    ground_colour: tuple[float, float, float]


@dataclass(frozen=True)
class Camera:
    """Where the object is seen from, and where it falls in the square picture.

    Azimuth 0 looks at the front (+z), 90 at the object's right-hand side (+x); roll turns the
    picture clockwise. ``lens_deg`` sets how near the camera stands; ``fill`` is the share of the
    picture's side that the object's longer extent takes; ``shift`` moves it, in picture sides.
    """

    azimuth_deg: float
    elevation_deg: float
    roll_deg: float = 0.0
    lens_deg: float = 35.0
    fill: float = 0.9
    shift: tuple[float, float] = (0.0, 0.0)  # right, up


def eye_and_clip(positions: Floats, camera: Camera) -> tuple[Floats, Floats]:
    """Camera position (3,) and the matrix (4, 4) that takes points (V, 3) to clip space."""
    points = positions.astype(np.float64)
    middle = (points.min(0) + points.max(0)) / 2
    radius = float(np.linalg.norm(points - middle, axis=1).max())
    azimuth, elevation, roll = np.deg2rad(
        [camera.azimuth_deg, camera.elevation_deg, camera.roll_deg]
    )
    level = np.cos(elevation)
    back = np.array([np.sin(azimuth) * level, np.sin(elevation), np.cos(azimuth) * level])
    right = np.array([np.cos(azimuth), 0.0, -np.sin(azimuth)])
    up = np.cross(back, right)
    right, up = (
        np.cos(roll) * right + np.sin(roll) * up,
        np.cos(roll) * up - np.sin(roll) * right,
    )
    distance = radius / np.sin(np.deg2rad(camera.lens_deg) / 2)
    eye = middle + distance * back
    near, far = distance - 1.01 * radius, distance + 1.01 * radius
    view = np.eye(4)
    view[:3, :3] = np.stack([right, up, back])
    view[:3, 3] = -view[:3, :3] @ eye
    project = np.zeros((4, 4))
    project[0, 0] = project[1, 1] = 1.0
    project[2, 2], project[2, 3] = -(far + near) / (far - near), -2 * far * near / (far - near)
    project[3, 2] = -1.0
    clip = project @ view
    seen = points @ clip[:, :3].T + clip[:, 3]  # (V, 4)
    flat = seen[:, :2] / seen[:, 3:]
    low, high = flat.min(0), flat.max(0)
    zoom = 2 * camera.fill / max(float((high - low).max()), 1e-9)
    frame = np.eye(4)
    frame[0, 0] = frame[1, 1] = zoom
    frame[:2, 3] = -zoom * (low + high) / 2 + 2 * np.asarray(camera.shift)
    return eye.astype(np.float32), (frame @ clip).astype(np.float32)


@cache
def _context() -> moderngl.Context:
    """The process's one OpenGL context."""
    return moderngl.create_context(standalone=True, backend="egl")  # type: ignore[arg-type]


@cache
def _program() -> moderngl.Program:
    return _context().program(vertex_shader=_VERTEX, fragment_shader=_FRAGMENT)


@cache
def _targets(side_px: int) -> tuple[moderngl.Framebuffer, moderngl.Framebuffer]:
    """A multisampled canvas and the plain one it is resolved into."""
    gl, size = _context(), (side_px, side_px)
    canvas = gl.framebuffer(
        gl.renderbuffer(size, 4, samples=4), gl.depth_renderbuffer(size, samples=4)
    )
    return canvas, gl.framebuffer(gl.renderbuffer(size, 4))


class Drawing:
    """A mesh on the graphics side; close it (or use ``with``) to free its memory.

    ``textures`` are RGBA images by material index; a texture with soft alpha, or an opacity below
    1, makes its material see-through: drawn last, far triangles first.
    """

    def __init__(self, mesh: Mesh, textures: dict[int, Image.Image]) -> None:
        order = np.argsort(mesh.material_ids, kind="stable")
        corners = [mesh.positions[order], mesh.normals[order], mesh.uvs[order]]
        self.corners: Floats = np.concatenate(corners, axis=2)  # (T, 3, 8)
        self.points: Floats = np.unique(mesh.positions.reshape(-1, 3), axis=0)  # (V, 3)
        ids = mesh.material_ids[order]
        self.ranges = [
            (int(first), int(np.searchsorted(ids, ids[first], side="right")))
            for first in np.flatnonzero(np.diff(ids, prepend=-1))
        ]
        self.materials = [mesh.materials[int(ids[first])] for first, _ in self.ranges]
        images = [textures.get(int(ids[first])) for first, _ in self.ranges]
        self.clear = [
            material.opacity < 0.99 or (image is not None and has_soft_alpha(image))
            for material, image in zip(self.materials, images, strict=True)
        ]
        self.textures = [_upload(image) if image is not None else None for image in images]
        self.buffer = _context().buffer(self.corners.astype("<f4").tobytes())
        self.array = _context().vertex_array(_program(), self.buffer, "position", "normal", "uv")

    @property
    def is_lying(self) -> bool:
        """True when the object is less than a fifth as high as it is wide or deep."""
        width, height, depth = np.ptp(self.points, axis=0)
        return bool(height < 0.2 * max(width, depth))

    def __enter__(self) -> "Drawing":
        return self

    def __exit__(self, *_: object) -> None:
        for held in (self.array, self.buffer, *self.textures):
            if held is not None:
                held.release()

    def render(self, camera: Camera, light: Light, size_px: int) -> npt.NDArray[np.float32]:
        """The object alone: (size_px, size_px, 4) in [0, 1], colour multiplied by alpha."""
        gl, program = _context(), _program()
        eye, to_clip = eye_and_clip(self.points, camera)
        canvas, resolved = _targets(size_px * SUPERSAMPLE)
        canvas.use()
        canvas.clear(0.0, 0.0, 0.0, 0.0)
        gl.enable(moderngl.DEPTH_TEST | moderngl.BLEND)
        gl.disable(moderngl.CULL_FACE)
        gl.blend_func = (  # type: ignore[assignment]
            *(moderngl.SRC_ALPHA, moderngl.ONE_MINUS_SRC_ALPHA),  # colour
            *(moderngl.ONE, moderngl.ONE_MINUS_SRC_ALPHA),  # coverage
        )
        direction = np.asarray(light.key_direction, dtype=np.float64)
        program["to_clip"].write(to_clip.T.astype("<f4").tobytes())  # type: ignore[union-attr]
        _set("eye", tuple(eye.tolist()))
        _set("key_direction", tuple((direction / np.linalg.norm(direction)).tolist()))
        _set("key_colour", light.key_colour)
        _set("sky_colour", light.sky_colour)
        _set("ground_colour", light.ground_colour)
        solid = [part for part in range(len(self.ranges)) if not self.clear[part]]
        for part in solid:
            self._draw(part)
        if len(solid) < len(self.ranges):
            canvas.depth_mask = False
            for part in self._sort_clear(eye):
                self._draw(part)
            canvas.depth_mask = True
        gl.copy_framebuffer(resolved, canvas)
        raw = np.frombuffer(resolved.read(components=4), dtype=np.uint8)
        large = raw.reshape(size_px, SUPERSAMPLE, size_px, SUPERSAMPLE, 4)[::-1]  # top row first
        drawn: Floats = large.mean(axis=(1, 3), dtype=np.float32) / np.float32(255)
        return drawn

    def _sort_clear(self, eye: Floats) -> list[int]:
        """See-through parts, far ones first, their triangles rewritten far to near."""
        far: list[tuple[float, int]] = []
        for part, (first, last) in enumerate(self.ranges):
            if self.clear[part]:
                corners = self.corners[first:last]
                reach = np.linalg.norm(corners[..., :3].mean(axis=1) - eye, axis=1)  # (T,)
                ordered = corners[np.argsort(-reach, kind="stable")]
                self.buffer.write(ordered.astype("<f4").tobytes(), offset=first * 3 * 8 * 4)
                far.append((float(reach.mean()), part))
        return [part for _, part in sorted(far, key=lambda pair: -pair[0])]

    def _draw(self, part: int) -> None:
        material, texture = self.materials[part], self.textures[part]
        red, green, blue = material.diffuse
        if texture is not None:
            texture.use(0)
            red = green = blue = 1.0  # the catalogue's icons show textures untinted
        _set("textured", texture is not None)
        _set("diffuse", (red, green, blue, material.opacity))
        _set("specular", (*material.specular, material.shininess))
        _set("cutoff", 0.02 if self.clear[part] else 0.5)
        first, last = self.ranges[part]
        self.array.render(moderngl.TRIANGLES, vertices=3 * (last - first), first=3 * first)


def _set(name: str, value: object) -> None:
    _program()[name] = value


def has_soft_alpha(image: Image.Image) -> bool:
    """True when more than 1 % of an RGBA image is neither opaque nor wholly clear."""
    alpha = np.asarray(image.getchannel("A"))
    return bool(((alpha > 20) & (alpha < 235)).mean() > 0.01)


def _upload(image: Image.Image) -> moderngl.Texture:
    """An RGBA image as a repeating, mipmapped texture; v runs up, so rows are flipped."""
    texture = _context().texture(image.size, 4, image.transpose(_FLIP).tobytes())
    texture.build_mipmaps()
    texture.filter = (moderngl.LINEAR_MIPMAP_LINEAR, moderngl.LINEAR)
    return texture


_FLIP = Image.Transpose.FLIP_TOP_BOTTOM
