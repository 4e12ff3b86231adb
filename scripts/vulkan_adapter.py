"""List this machine's Vulkan adapters and tell which of them LiteRT's GPU delegate will take.

Run by ``scripts/setup.sh`` before anything is installed, so it needs nothing but the standard library and
the Vulkan loader, ``libvulkan.so.1``. On Linux the delegate draws on Dawn, which refuses a driver that lacks
any feature below (Dawn's ``PhysicalDeviceVk.cpp``; the ai-edge-litert wheel's messages name the same ones).
Mesa's software driver has them all from 23.1 on; 22.3 lacks two.

Exit status: 0 when some adapter suits, 1 when none does, 2 when there is no Vulkan loader at all.
"""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass

# Positions in VkPhysicalDeviceFeatures, which is nothing but VkBool32s.
REQUIRED = {
    "robustBufferAccess": 0,
    "fullDrawIndexUint32": 1,
    "imageCubeArray": 2,
    "independentBlend": 3,
    "sampleRateShading": 6,
    "depthBiasClamp": 12,
    "fragmentStoresAndAtomics": 26,
    "shaderUniformBufferArrayDynamicIndexing": 33,
    "shaderSampledImageArrayDynamicIndexing": 34,
    "shaderStorageBufferArrayDynamicIndexing": 35,
    "shaderStorageImageArrayDynamicIndexing": 36,
}
TEXTURE_ETC2, TEXTURE_ASTC, TEXTURE_BC = 20, 21, 22
DEVICE_TYPES = ("other", "integrated GPU", "discrete GPU", "virtual GPU", "CPU")

# VkStructureType
APPLICATION_INFO, INSTANCE_CREATE_INFO = 0, 1
FEATURES_2, PROPERTIES_2 = 1000059000, 1000059001
FLOAT16_INT8_FEATURES, DRIVER_PROPERTIES = 1000082000, 1000196000


class ApplicationInfo(ctypes.Structure):
    """VkApplicationInfo."""

    _fields_ = (
        ("type", ctypes.c_uint32),
        ("next", ctypes.c_void_p),
        ("application", ctypes.c_char_p),
        ("application_version", ctypes.c_uint32),
        ("engine", ctypes.c_char_p),
        ("engine_version", ctypes.c_uint32),
        ("api_version", ctypes.c_uint32),
    )


class InstanceCreateInfo(ctypes.Structure):
    """VkInstanceCreateInfo."""

    _fields_ = (
        ("type", ctypes.c_uint32),
        ("next", ctypes.c_void_p),
        ("flags", ctypes.c_uint32),
        ("application_info", ctypes.c_void_p),
        ("layer_count", ctypes.c_uint32),
        ("layers", ctypes.c_void_p),
        ("extension_count", ctypes.c_uint32),
        ("extensions", ctypes.c_void_p),
    )


class DriverProperties(ctypes.Structure):
    """VkPhysicalDeviceDriverProperties."""

    _fields_ = (
        ("type", ctypes.c_uint32),
        ("next", ctypes.c_void_p),
        ("id", ctypes.c_uint32),
        ("name", ctypes.c_char * 256),
        ("info", ctypes.c_char * 256),
        ("conformance", ctypes.c_uint8 * 4),
    )


class Properties2(ctypes.Structure):
    """VkPhysicalDeviceProperties2 as far as the device's name; the rest (limits) is room that is not read."""

    _fields_ = (
        ("type", ctypes.c_uint32),
        ("next", ctypes.c_void_p),
        ("api_version", ctypes.c_uint32),
        ("driver_version", ctypes.c_uint32),
        ("vendor", ctypes.c_uint32),
        ("device", ctypes.c_uint32),
        ("device_type", ctypes.c_uint32),
        ("device_name", ctypes.c_char * 256),
        ("rest", ctypes.c_uint8 * 2048),
    )


class Float16Features(ctypes.Structure):
    """VkPhysicalDeviceShaderFloat16Int8Features."""

    _fields_ = (
        ("type", ctypes.c_uint32),
        ("next", ctypes.c_void_p),
        ("float16", ctypes.c_uint32),
        ("int8", ctypes.c_uint32),
    )


class Features2(ctypes.Structure):
    """VkPhysicalDeviceFeatures2."""

    _fields_ = (("type", ctypes.c_uint32), ("next", ctypes.c_void_p), ("has", ctypes.c_uint32 * 55))


@dataclass(frozen=True)
class Adapter:
    """One physical device, and what it lacks for Dawn (nothing: it suits)."""

    name: str
    kind: str
    driver: str
    api: str
    float16: bool
    lacks: tuple[str, ...]


def version(packed: int) -> str:
    """Vulkan's packed version number as ``major.minor.patch``."""
    return f"{(packed >> 22) & 0x7F}.{(packed >> 12) & 0x3FF}.{packed & 0xFFF}"


def adapters() -> list[Adapter]:
    """Every physical device the Vulkan loader knows.

    Raises OSError when there is no loader; a loader without a driver is an empty list.
    """
    vulkan = ctypes.CDLL("libvulkan.so.1")
    application = ApplicationInfo(type=APPLICATION_INFO, api_version=(1 << 22) | (1 << 12))
    create = InstanceCreateInfo(
        type=INSTANCE_CREATE_INFO,
        application_info=ctypes.cast(ctypes.byref(application), ctypes.c_void_p),
    )
    instance = ctypes.c_void_p()
    if vulkan.vkCreateInstance(ctypes.byref(create), None, ctypes.byref(instance)) != 0:
        return []
    try:
        count = ctypes.c_uint32(0)
        vulkan.vkEnumeratePhysicalDevices(instance, ctypes.byref(count), None)
        handles = (ctypes.c_void_p * count.value)()
        vulkan.vkEnumeratePhysicalDevices(instance, ctypes.byref(count), handles)
        return [read(vulkan, ctypes.c_void_p(handle)) for handle in handles[: count.value]]
    finally:
        vulkan.vkDestroyInstance(instance, None)


def read(vulkan: ctypes.CDLL, handle: ctypes.c_void_p) -> Adapter:
    """Ask one physical device for its name, driver and features."""
    driver = DriverProperties(type=DRIVER_PROPERTIES)
    properties = Properties2(type=PROPERTIES_2, next=ctypes.addressof(driver))
    vulkan.vkGetPhysicalDeviceProperties2(handle, ctypes.byref(properties))
    float16 = Float16Features(type=FLOAT16_INT8_FEATURES)
    features = Features2(type=FEATURES_2, next=ctypes.addressof(float16))
    vulkan.vkGetPhysicalDeviceFeatures2(handle, ctypes.byref(features))
    lacks = [name for name, position in REQUIRED.items() if not features.has[position]]
    if not (features.has[TEXTURE_BC] or (features.has[TEXTURE_ETC2] and features.has[TEXTURE_ASTC])):
        lacks.append("textureCompressionBC")
    return Adapter(
        name=properties.device_name.decode(errors="replace"),
        kind=DEVICE_TYPES[properties.device_type] if properties.device_type < len(DEVICE_TYPES) else "other",
        driver=f"{driver.name.decode(errors='replace')} {driver.info.decode(errors='replace')}".strip(),
        api=version(properties.api_version),
        float16=bool(float16.float16),
        lacks=tuple(lacks),
    )


def main() -> int:
    """Print one line per adapter, suitable ones first, and real ones before software."""
    try:
        found = sorted(adapters(), key=lambda adapter: (len(adapter.lacks), adapter.kind == "CPU"))
    except (OSError, AttributeError) as error:  # absent, or older than Vulkan 1.1
        print(f"no Vulkan loader: {error}")
        return 2
    for adapter in found:
        fp16 = "fp16 arithmetic" if adapter.float16 else "no fp16 arithmetic"
        verdict = f"lacks {', '.join(adapter.lacks)}" if adapter.lacks else "suits"
        print(f"{adapter.name} ({adapter.kind}; {adapter.driver}; Vulkan {adapter.api}; {fp16}): {verdict}")
    if not found:
        print("a Vulkan loader, but no driver")
    return 0 if any(not adapter.lacks for adapter in found) else 1


if __name__ == "__main__":
    sys.exit(main())
