/* SPDX-License-Identifier: Apache-2.0 */
/* Hostile bytes as a control message; the first byte says which. What is accepted is encoded,
 * decoded and encoded again: the second encoding must equal the first, or something was read
 * differently from how it is written. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proto/message.h"

static unsigned char first[FRAME_MESSAGE_MAX], second[FRAME_MESSAGE_MAX];

#define X(name)                                                                  \
	static void try_##name(const uint8_t *bytes, size_t len)                 \
	{                                                                        \
		static struct message_##name m, again;                           \
		size_t n;                                                        \
                                                                                 \
		if (message_##name##_decode(bytes, len, &m) < 0)                 \
			return;                                                  \
		n = message_##name##_encode(&m, first, sizeof first);            \
		if (message_##name##_decode(first, n, &again) < 0)               \
			abort();                                                 \
		if (message_##name##_encode(&again, second, sizeof second) != n) \
			abort();                                                 \
		if (memcmp(first, second, n) != 0)                               \
			abort();                                                 \
	}
MESSAGE_TABLE(X)
#undef X

/* A fixed choice per byte: the order of MESSAGE_TABLE, which only grows at its end. */
static void (*const tries[])(const uint8_t *bytes, size_t len) = {
#define X(name) try_##name,
    MESSAGE_TABLE(X)
#undef X
};

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	size_t count = sizeof tries / sizeof tries[0];

	if (len > 0)
		tries[bytes[0] % count](bytes + 1, len - 1);
	return 0;
}
