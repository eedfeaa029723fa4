/* SPDX-License-Identifier: Apache-2.0 */
/* read_ahead.h: what an SSL reads from: a socket, taken READ_AHEAD_BYTES at a time into a buffer of the thread's.
 *
 * OpenSSL's own read ahead moves, before each record, everything it has read and not yet decrypted, to align it: with
 * eight records in its buffer every byte is moved three or four times. From here it gets one record at a time, each
 * byte copied once. A connection holds a buffer only while there is something in it, so ten thousand idle ones hold
 * none. */
#ifndef HF_SERVER_READ_AHEAD_H
#define HF_SERVER_READ_AHEAD_H

#include <openssl/bio.h>

enum {
	READ_AHEAD_BYTES = 64 * 1024
}; /* four TLS records; larger ones fall out of the cache before they are decrypted */

/* Borrows fd, which is non-blocking. BIO_pending() tells what was taken from the socket and not yet read. NULL: no
 * memory. Freed by BIO_free() or the SSL that has it. */
BIO *read_ahead_create(int fd);

/* This thread reads no more: free the buffers it keeps for the next connection that has something to read. */
void read_ahead_end_thread(void);

#endif
