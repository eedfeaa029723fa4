/* SPDX-License-Identifier: Apache-2.0 */
/* check_holdfast: the monitoring plug-in. */
#include "server/check/check.h"

int
main(int argc, char **argv)
{
	return check_main(argc, argv);
}
