/* SPDX-License-Identifier: Apache-2.0 */
/* loop.h: loop devices and mounts for tests that run as root. */
#ifndef HF_TESTS_LOOP_H
#define HF_TESTS_LOOP_H

#include <fcntl.h>
#include <linux/loop.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { LOOP_PATH_BYTES = 32 };

static inline bool
loop_is_possible(void)
{
	return geteuid() == 0 && access("/dev/loop-control", R_OK | W_OK) == 0;
}

/* Attach image to the loop device at path. */
static inline bool
loop_attach_to(const char *path, const char *image)
{
	int file = open(image, O_RDWR | O_CLOEXEC), loop = open(path, O_RDWR | O_CLOEXEC);
	bool ok = file >= 0 && loop >= 0 && ioctl(loop, LOOP_SET_FD, file) == 0;

	if (file >= 0)
		close(file);
	if (loop >= 0)
		close(loop);
	return ok;
}

/* Attach image to a free one. False if there is none: then ret_path is "". */
static inline bool
loop_attach(const char *image, char ret_path[LOOP_PATH_BYTES])
{
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	bool ok = false;

	for (int tries = 0; control >= 0 && !ok && tries < 20; tries++) { /* somebody else may be faster */
		snprintf(ret_path, LOOP_PATH_BYTES, "/dev/loop%d", ioctl(control, LOOP_CTL_GET_FREE));
		ok = loop_attach_to(ret_path, image);
	}
	if (!ok)
		ret_path[0] = '\0';
	if (control >= 0)
		close(control);
	return ok;
}

/* Detach; "" and what is not attached are allowed. While somebody holds it open it happens only when he closes it. */
static inline void
loop_detach(const char *path)
{
	int loop = path[0] != '\0' ? open(path, O_RDWR | O_CLOEXEC) : -1;

	if (loop < 0)
		return;
	(void)ioctl(loop, LOOP_CLR_FD, 0);
	close(loop);
}

#endif
