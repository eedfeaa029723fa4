/* SPDX-License-Identifier: Apache-2.0 */
/* status.h: the conditions Holdfast itself knows, beside errno. One table gives code, wire value, API
 * code and text together. Functions return them negative, as they return a negative errno; the wire
 * (Goodbye.status) and the API (problem "code") carry the value and the name below.
 *
 * The values start above every errno and are never reused. */
#ifndef HF_COMMON_STATUS_H
#define HF_COMMON_STATUS_H

/* X(name, value, sentence) */
#define HF_STATUS_TABLE(X)                                                                              \
	X(HF_EPROTOCOL, 1000, "the peer broke the protocol")                                            \
	X(HF_EVERSION, 1001, "no protocol version in common")                                           \
	X(HF_ETOOBIG, 1002, "a message or payload is larger than the limit")                            \
	X(HF_EDIGEST, 1003, "a block does not match its digest")                                        \
	X(HF_ECREDIT, 1004, "data was sent beyond the granted credit")                                  \
	X(HF_EBEYOND, 1005, "an extent lies beyond the end of its volume")                              \
	X(HF_EFRONTIER, 1006, "a fill extent does not begin at the fill frontier")                      \
	X(HF_EVOLUME, 1007, "no such volume of this source")                                            \
	X(HF_ESEQUENCE, 1008, "a sequence number is out of order")                                      \
	X(HF_ESTREAM, 1009, "the stream does not continue what is durable here")                        \
	X(HF_EFENCED, 1010, "a newer session of the same installation took over")                       \
	X(HF_ECLONE, 1011, "another installation, or an older start of this one, claims this source")   \
	X(HF_EREVOKED, 1012, "the certificate is revoked or unknown here")                              \
	X(HF_EEXPIRED, 1013, "the certificate has expired")                                             \
	X(HF_ETOKEN, 1014, "the token is unknown, used or expired")                                     \
	X(HF_ERATE, 1015, "too many attempts; wait a minute")                                           \
	X(HF_ESILENT, 1016, "the peer was silent for too long")                                         \
	X(HF_ESHUTDOWN, 1017, "the server is shutting down")                                            \
	X(HF_EFORMAT, 1018, "the format is newer than this program, or not ours: use a newer Holdfast") \
	X(HF_ECORRUPT, 1019, "data on disk is damaged")                                                 \
	X(HF_EFULL, 1020, "the staging area is full")                                                   \
	X(HF_ENOPIT, 1021, "no such point in time")                                                     \
	X(HF_EIDENTITY, 1022, "the disk's identity is missing, ambiguous, or shrunk")                   \
	X(HF_ETOOLARGE, 1023, "the volume is larger than the staging file system can hold")             \
	X(HF_EINCOMPLETE, 1024, "a volume's first fill is not finished")                                \
	X(HF_EADMIN, 1025, "closed by an administrator")                                                \
	X(HF_ESTOPPED, 1026, "replication of this source was stopped by an administrator")

#define X(name, value, text) +1
enum { HF_STATUS_FIRST = 1000, HF_STATUSES = 0 HF_STATUS_TABLE(X) }; /* there is none missing between */
#undef X

enum hf_status {
#define X(name, value, text) name = (value),
	HF_STATUS_TABLE(X)
#undef X
};

/* A sentence for a negative (or positive) errno or status. Static memory. */
const char *hf_status_text(int code);

/* "DIGEST" for -HF_EDIGEST (the API's problem code), "EIO" for -EIO, "UNKNOWN" otherwise. Static memory. */
const char *hf_status_name(int code);

#endif
