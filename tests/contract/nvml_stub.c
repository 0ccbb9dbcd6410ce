/* The symbols of libnvidia-ml.so.1 that nvidia-ml-py calls for skipc, over GPUs that the
 * environment describes: NVML_GPUS (how many), NVML_FAULT (what the counter answers). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, UNINITIALIZED = 1, NOT_FOUND = 6, GPU_MOST = 8 };

typedef struct {
    char busIdLegacy[16];
    unsigned int domain, bus, device, pciDeviceId, pciSubSystemId;
    char busId[32];
} PciInfo;

static int users;
static char devices[GPU_MOST];

static int number(const char *name) {
    const char *text = getenv(name);
    return text ? atoi(text) : 0;
}

static void bus_id(int index, char *text, int size) {
    snprintf(text, size, "00000000:%02X:00.0", index + 1);
}

int nvmlInitWithFlags(unsigned int flags) { (void)flags; users++; return SUCCESS; }
int nvmlShutdown(void) { return users-- > 0 ? SUCCESS : UNINITIALIZED; }
const char *nvmlErrorString(int code) { (void)code; return "an error"; }

int nvmlDeviceGetCount_v2(unsigned int *count) {
    *count = number("NVML_GPUS");
    return users > 0 ? SUCCESS : UNINITIALIZED;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **device) {
    *device = &devices[index];
    return SUCCESS;
}

int nvmlDeviceGetHandleByPciBusId_v2(const char *wanted, void **device) {
    char text[32];
    for (int index = 0; index < number("NVML_GPUS"); index++) {
        bus_id(index, text, sizeof text);
        if (strcmp(text, wanted) == 0) {
            *device = &devices[index];
            return SUCCESS;
        }
    }
    return NOT_FOUND;
}

int nvmlDeviceGetName(void *device, char *name, unsigned int size) {
    snprintf(name, size, "Stub %d", (int)((char *)device - devices));
    return SUCCESS;
}

int nvmlDeviceGetPciInfo_v3(void *device, PciInfo *info) {
    memset(info, 0, sizeof *info);
    bus_id((int)((char *)device - devices), info->busId, sizeof info->busId);
    return SUCCESS;
}

int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *energy_mj) {
    *energy_mj = 5000000000ULL + (unsigned long long)((char *)device - devices);
    return number("NVML_FAULT");
}
