"""A model's network: built by the name of its backbone, begun with the weights it asks for."""

from server_models.architecture import Architecture
from server_models.cloud_config import CloudConfig
from server_models.edge_net import SPECS, EdgeNet
from server_models.gallery_model import GalleryModel, TrainedGallery
from server_models.lite_net import LiteNet
from server_models.member_config import MemberConfig
from server_models.residual_net import ResidualNet
from server_models.starters import load_starter

Net = EdgeNet | LiteNet | ResidualNet


def build(model: MemberConfig | CloudConfig, dim: int) -> Net:
    """(N, 3, S, S) -> (N, D), with random weights."""
    if isinstance(model.backbone, Architecture):
        return EdgeNet(model.backbone, dim)
    if model.backbone == "kin-s" or model.backbone == "kin-w" or model.backbone == "kin-m":
        return EdgeNet(SPECS[model.backbone], dim)
    if model.backbone == "resnet18-w32":
        return ResidualNet(model.backbone, dim)
    frozen = 0
    if isinstance(model, CloudConfig) and model.start == "backbone":  # random blocks have to learn
        frozen = model.frozen_blocks
    return LiteNet(model.backbone, dim, frozen_blocks=frozen)


def begin_cloud(net: Net, cloud: CloudConfig) -> None:
    """Fill ``net`` with the weights that come with its backbone, where it has and wants them."""
    if cloud.start == "nothing":
        return
    if isinstance(net, LiteNet):
        net.load_imagenet()
    elif isinstance(cloud.backbone, str):
        load_starter(cloud.backbone, net)


def begin(net: Net, member: MemberConfig, gallery_model: GalleryModel) -> None:
    """Fill ``net`` with what ``member.start`` names; `FamilyConfig` has checked that it fits."""
    if isinstance(net, EdgeNet) and member.start == "starter":
        load_starter(str(member.backbone), net)
    elif isinstance(net, LiteNet) and member.start == "imagenet":
        net.load_imagenet()
    elif member.start == "cloud" and isinstance(gallery_model, TrainedGallery):
        net.load_state_dict(gallery_model.net.state_dict())
