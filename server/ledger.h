/* SPDX-License-Identifier: Apache-2.0 */
/* ledger.h: what happened (events) and who asked for what (audit), as rows of the registry, in the order in which they
 * came. A row that finds no room waits in memory, and with it all that come after it, until there is some again: on a
 * full disk its log line is all there is of it till then. Memory is bounded: beyond that the log line is all, and an
 * event that says how many events are missing before it is written as soon as that can be.
 *
 * Every call but the last two blocks, as the registry's do. Any thread. */
#ifndef HF_SERVER_LEDGER_H
#define HF_SERVER_LEDGER_H

#include "server/registry.h"

struct ledger;

/* What may wait. Events leave half of it to the audit. */
enum { LEDGER_ROWS_MAX = 256 };

/* Borrows the registry until it is destroyed. -ENOMEM. */
int ledger_create(struct registry *registry, struct ledger **ret_ledger);
void ledger_destroy(struct ledger *l); /* NULL allowed; what waits is lost */

/* 0: the row is durable; 1: it waits for room. Else it is not kept, and counted: -HF_EFULL (too many wait), or as
 * registry_add_x(). */
int ledger_add_event(struct ledger *l, const struct registry_event *event, struct hf_error *err);

/* As ledger_add_event(), but not counted; may_wait false: -HF_EFULL where that waits. 0: its number is filled in. */
int ledger_add_audit(struct ledger *l, struct registry_audit *audit, bool may_wait, struct hf_error *err);

/* Write what waits: 0, or why the rest goes on waiting. */
int ledger_settle(struct ledger *l, struct hf_error *err);

/* Count an event that does not come here, because too many are on their way. Never blocks. */
void ledger_lose_event(struct ledger *l);

/* Rows that wait. Never blocks. */
size_t ledger_waiting(const struct ledger *l);

#endif
