/* SPDX-License-Identifier: Apache-2.0 */
/* holdfastctl: the control sockets' client for people and scripts. */
#include "server/ctl/ctl.h"

int
main(int argc, char **argv)
{
	return ctl_main(argc, argv);
}
