/* SPDX-License-Identifier: Apache-2.0 */
/* wire.h: one TCP and TLS connection to holdfastd that carries frames. Never blocks; poll(2) on
 * wire_fd() between steps.
 *
 * Steps return done, wait or dead. A dead wire says why in wire_error() and is good for
 * wire_close() only. */
#ifndef HF_AGENT_WIRE_H
#define HF_AGENT_WIRE_H

#include <openssl/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/address.h"
#include "proto/frame.h"

struct wire;

enum wire_step { WIRE_DONE, WIRE_WAIT, WIRE_DEAD };

/* What a server sends is small: no message over FRAME_MESSAGE_MAX, no payload but digests. */
enum { WIRE_PAYLOAD_MAX = 64 * 1024 };

struct wire_frame { /* borrowed until the next wire_read() */
	struct frame_header header;
	const unsigned char *message, *payload;
};

/* Begin to connect. Shares context. key_update_bytes: new TLS keys after so many bytes sent, 0 = 64
 * GiB. 0 or -errno (then the address cannot even be tried). */
int wire_open(const struct address_resolved *to, SSL_CTX *context, uint64_t key_update_bytes, struct wire **ret_wire,
    struct hf_error *err);

/* Free; sends close_notify if the connection is good. NULL is allowed. */
void wire_close(struct wire *w);

/* TCP, then TLS, then the check of the server's certificate. */
enum wire_step wire_shake(struct wire *w);
bool wire_connected(const struct wire *w); /* TCP is through */

/* The next whole frame, its header checked. May be called when a write has failed, until it is DEAD
 * itself: the peer's GOODBYE may still be there to read. */
enum wire_step wire_read(struct wire *w, struct wire_frame *ret_frame);

/* Write some of len bytes. DONE with *ret_written > 0, or wait. After WAIT the same bytes must be
 * offered again. */
enum wire_step wire_write(struct wire *w, const unsigned char *bytes, size_t len, size_t *ret_written);

/* True while TCP sends the same bytes again and nothing comes back. A peer that is there but does not
 * read answers, and is not stalled. */
bool wire_is_stalled(const struct wire *w);

/* Bytes written that the peer's TCP has not acknowledged; 0 if that cannot be told. */
size_t wire_unacknowledged(const struct wire *w);

uint64_t wire_received(const struct wire *w); /* bytes, in all: those of a TLS record that is not whole yet, too */
int wire_fd(const struct wire *w);
short wire_events(const struct wire *w); /* for poll: POLLIN, and POLLOUT if the last step waits for that */

/* Why it is dead: -errno or -HF_E... with words. */
const struct hf_error *wire_error(const struct wire *w);

/* Sleep until the wire is ready for its events, wake_fd (-1 = none) is readable, or deadline_ns
 * (monotonic) passed. */
void wire_poll(const struct wire *w, int wake_fd, int64_t deadline_ns);

#endif
