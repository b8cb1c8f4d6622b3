/**
 * @file A Vulkan driver that is Mesa's lavapipe under SwiftShader's name. Chromium loads one CPU driver for WebGPU, the libvk_swiftshader.so beside its
 * binary, and accepts it by its PCI ids; this library stands in that place, hands every call to lavapipe and changes only the ids and the name in the
 * device's properties. Built by chromium_lvp.mjs with -DLAVAPIPE="path of libvulkan_lvp.so".
 */
#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* The heads of VkPhysicalDeviceProperties and VkPhysicalDeviceProperties2: all that is touched here. */
struct properties {
  uint32_t api_version, driver_version, vendor_id, device_id, device_type;
  char device_name[256];
};
struct properties2 {
  uint32_t type;
  void *next;
  struct properties properties;
};

typedef void (*function)(void);
typedef function (*get_function)(void *instance, const char *name);

static get_function lavapipe;
static void (*get_properties)(void *device, struct properties *out);
static void (*get_properties2)(void *device, struct properties2 *out);

static int load(void) {
  if (lavapipe) return 1;
  void *library = dlopen(LAVAPIPE, RTLD_NOW | RTLD_LOCAL);
  if (library) lavapipe = (get_function)dlsym(library, "vk_icdGetInstanceProcAddr");
  if (!lavapipe) fprintf(stderr, "lavapipe_shim: %s\n", dlerror());
  return lavapipe != NULL;
}

static void rename_device(struct properties *p) {
  p->vendor_id = 0x1AE0; /* Google */
  p->device_id = 0xC0DE; /* SwiftShader */
  strncpy(p->device_name, "SwiftShader Device (Mesa lavapipe)", sizeof p->device_name);
}

static void properties_of(void *device, struct properties *out) {
  get_properties(device, out);
  rename_device(out);
}

static void properties2_of(void *device, struct properties2 *out) {
  get_properties2(device, out);
  rename_device(&out->properties);
}

/* The three entry points of a driver, from the Vulkan loader's interface (LoaderDriverInterface.md). */
function vk_icdGetInstanceProcAddr(void *instance, const char *name) {
  if (!load()) return NULL;
  function found = lavapipe(instance, name);
  if (!found) return NULL;
  if (!strcmp(name, "vkGetPhysicalDeviceProperties")) {
    get_properties = (void (*)(void *, struct properties *))found;
    return (function)properties_of;
  }
  if (!strcmp(name, "vkGetPhysicalDeviceProperties2") || !strcmp(name, "vkGetPhysicalDeviceProperties2KHR")) {
    get_properties2 = (void (*)(void *, struct properties2 *))found;
    return (function)properties2_of;
  }
  return found;
}

function vkGetInstanceProcAddr(void *instance, const char *name) {
  return strcmp(name, "vkGetInstanceProcAddr") ? vk_icdGetInstanceProcAddr(instance, name) : (function)vkGetInstanceProcAddr;
}

int32_t vk_icdNegotiateLoaderICDInterfaceVersion(uint32_t *version) {
  if (*version > 5) *version = 5;
  return 0;
}
