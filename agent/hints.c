/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/hints.h"

#include <ifaddrs.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <unistd.h>

static void
read_line(const char *path, const char *prefix, char *ret_text, size_t size)
{
	FILE *f = fopen(path, "re");
	char line[256];

	while (f != NULL && fgets(line, sizeof line, f) != NULL) {
		char *value = line + strlen(prefix);

		if (strncmp(line, prefix, strlen(prefix)) != 0)
			continue;
		value += strspn(value, "\"");
		value[strcspn(value, "\"\n")] = '\0';
		snprintf(ret_text, size, "%s", value);
		break;
	}
	if (f != NULL)
		(void)fclose(f); /* only read from */
}

static bool
is_real_interface(const struct ifaddrs *i)
{
	const struct sockaddr_ll *a = (const struct sockaddr_ll *)(const void *)i->ifa_addr;

	return a != NULL && a->sll_family == AF_PACKET && a->sll_halen == 6 && (i->ifa_flags & IFF_LOOPBACK) == 0;
}

static void
gather_macs(struct message_hints *h)
{
	size_t max = sizeof h->mac_addresses / sizeof h->mac_addresses[0];
	struct ifaddrs *all;

	if (getifaddrs(&all) < 0)
		return;
	for (struct ifaddrs *i = all; i != NULL && h->mac_count < max; i = i->ifa_next) {
		const struct sockaddr_ll *a = (const struct sockaddr_ll *)(const void *)i->ifa_addr;

		if (is_real_interface(i))
			snprintf(h->mac_addresses[h->mac_count++], sizeof h->mac_addresses[0],
			    "%02x:%02x:%02x:%02x:%02x:%02x", a->sll_addr[0], a->sll_addr[1], a->sll_addr[2],
			    a->sll_addr[3], a->sll_addr[4], a->sll_addr[5]);
	}
	freeifaddrs(all);
}

void
hints_gather(struct message_hints *ret_hints)
{
	struct message_hints h = {0};
	struct utsname name;
	struct sysinfo info;

	if (uname(&name) == 0) {
		snprintf(h.hostname, sizeof h.hostname, "%s", name.nodename);
		snprintf(h.kernel, sizeof h.kernel, "Linux %s", name.release);
	}
	if (sysinfo(&info) == 0)
		h.ram_bytes = (uint64_t)info.totalram * info.mem_unit;
	read_line("/etc/machine-id", "", h.machine_id, sizeof h.machine_id);
	read_line("/etc/os-release", "PRETTY_NAME=", h.os, sizeof h.os);
	gather_macs(&h);
	h.cpus = (uint32_t)sysconf(_SC_NPROCESSORS_ONLN);
	snprintf(h.agent_version, sizeof h.agent_version, "%s", HOLDFAST_VERSION);
	*ret_hints = h;
}
