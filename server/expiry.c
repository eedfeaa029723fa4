/* SPDX-License-Identifier: Apache-2.0 */
#include "server/expiry.h"

#include <stddef.h>

#include "server/pki.h"

enum expiry
expiry_of(int64_t not_before_ns, int64_t not_after_ns, int64_t now_ns, int64_t *ret_since_ns)
{
	int64_t near_ns = not_after_ns - (not_after_ns - not_before_ns - PKI_CLOCK_LEEWAY_NS) / 5;
	enum expiry e = now_ns >= not_after_ns ? EXPIRY_OVER : now_ns >= near_ns ? EXPIRY_NEAR : EXPIRY_FAR;

	if (ret_since_ns != NULL)
		*ret_since_ns = e == EXPIRY_OVER ? not_after_ns : e == EXPIRY_NEAR ? near_ns : not_before_ns;
	return e;
}
