"""What differs on a phone that has no app."""

from __future__ import annotations

from harness.api.on_device import OnDevice
from harness.devices.android.no_app.folder import chosen_tools
from harness.devices.registry import kind_of


def compiles_each_time(on_device: OnDevice) -> bool:
    """Whether the device compiles a model anew for each run: LiteRT's run_model ends with its job."""
    phone = on_device.phone
    return kind_of(on_device.name).name == "android" and chosen_tools(phone.tools, phone.apk) is not None
