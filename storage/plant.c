/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/plant.h"

#ifdef PLANTS
#include <stdlib.h>

int planted;

static void __attribute__((constructor)) plant(void)
{
	const char *text = getenv("PLANT");

	planted = text != NULL ? atoi(text) : 0;
}
#endif
