/* SPDX-License-Identifier: Apache-2.0 */
/* identity.h: what a server is to its agents, and cannot be had again when it is lost: the CA and its key, the sources
 * with their ids, certificates and settings. No data of any volume: that is compared and sent again. All calls block.
 */
#ifndef HF_SERVER_IDENTITY_H
#define HF_SERVER_IDENTITY_H

#include "server/bundle.h"
#include "server/pki.h"
#include "server/registry.h"
#include "server/status.h"

/* Catalog thread (it writes the registry's copy, too). Sources whose settings are not known now, because their store is
 * not open, are counted in ret_unknown; the rest of them is in it. Adds to bundle. */
int identity_take(const char *data_dir, struct registry *registry, struct status_table *status, int64_t now_ns,
    struct bundle *bundle, unsigned *ret_unknown, struct hf_error *err);

/* Remember that what identity_take() gave at now_ns was handed out. */
int identity_note_backup(struct registry *registry, struct pki *pki, int64_t now_ns, struct hf_error *err);

/* What the newest backup is worth. Where there is no source yet there is nothing to save. */
struct identity_backup {
	int64_t taken_ns;   /* 0 = there is none */
	int64_t unsaved_ns; /* since when there is a source or a CA that is not in it; 0 = it has all */
};
int identity_look(struct registry *registry, struct pki *pki, struct identity_backup *ret_backup, struct hf_error *err);

struct identity_facts {
	char ca_fingerprint[FINGERPRINT_TEXT_BYTES], version[32];
	int64_t taken_ns;
	size_t source_count;
};

/* Make a staging area of it in data_dir, which must be there and empty; no daemon may run on it. When it is cut off or
 * fails, holdfastd refuses what is there by then. -ENOTEMPTY; -HF_ECORRUPT; -HF_EFORMAT: of a newer version; -errno. */
int identity_put(const struct bundle *bundle, const char *data_dir, int64_t now_ns, struct identity_facts *ret_facts,
    struct hf_error *err);

/* Catalog thread. A certificate that our CA signed and the registry does not know: was it made after the backup that
 * this registry comes from, and before that was put back? Then it is recorded. 0; -ENOENT: it is none of ours. */
int identity_recover_certificate(struct registry *registry, const struct pki_peer *peer, struct hf_error *err);

#endif
