"""What `torch.hub.load` finds in a clone of this repository.

net = torch.hub.load("path/to/clone", "unet", source="local", in_channels=3)
"""

dependencies = ["torch"]  # weights also need safetensors


def unet(weights=None, **switches):
    """Return a UNet: of a .safetensors file or a run's folder, or new with switches."""
    from unet_tutorial.model import UNet

    if weights is None:
        return UNet(**switches)
    if switches:
        raise ValueError("the file of the weights says which switches the net has")
    from unet_tutorial.runs.weights import find_net, load_net

    return load_net(find_net(weights))[0]
