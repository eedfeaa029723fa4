/* SPDX-License-Identifier: Apache-2.0 */
/* config.h: holdfastd.conf: INI, every key known, every error with file and line. An empty file
 * works. */
#ifndef HF_SERVER_CONFIG_H
#define HF_SERVER_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "proto/common/error.h"
#include "proto/common/units.h"

enum { CONFIG_TEXT_BYTES = 256 };

struct config {
	/* [server] */
	char listen[CONFIG_TEXT_BYTES];        /* 0.0.0.0:1500; "HOST:0" = any port, printed at start */
	char enroll_listen[CONFIG_TEXT_BYTES]; /* 0.0.0.0:1501; "off" */
	unsigned workers;                      /* 0 = one per core */
	unsigned sessions_max;                 /* 10000 */
	int64_t heartbeat_interval_ns;         /* 1s */
	char log_level[16];                    /* info */
	/* [storage] */
	char data_dir[CONFIG_TEXT_BYTES];    /* /var/lib/holdfast; not root: $XDG_STATE_HOME/holdfast
						or ~/.local/state/holdfast */
	char journal_dir[CONFIG_TEXT_BYTES]; /* or "none": in data_dir */
	bool data_dir_set;                   /* by a file: one that is missing is then not made */
	uint64_t segment_bytes;              /* 256MiB */
	uint64_t reserve_bytes;              /* 0: see area.h */
	unsigned space_warning;              /* 15: percent */
	char when_full[8];                   /* "stall" or "thin": of sources that do not say */
	int64_t scrub_interval_ns;           /* 7d; 0 = never */
	uint64_t scrub_bytes;                /* 32MiB: a second, of one that nobody asked for */
	/* [ingest] */
	uint64_t memory_bytes; /* 256MiB: all slabs of all workers */
	uint64_t credit_bytes; /* 8MiB: most a session may have in flight */
	/* [tls] */
	int64_t certificate_lifetime_ns; /* 90d */
	int64_t token_lifetime_ns;       /* 1h */
	/* [admin] */
	char runtime_dir[CONFIG_TEXT_BYTES]; /* /run/holdfast; not root: $XDG_RUNTIME_DIR/holdfast,
						else <data_dir>/run */
	/* [metrics] */
	char metrics_listen[CONFIG_TEXT_BYTES]; /* off; "127.0.0.1:9877" */
	/* [pit] */
	char policy[CONFIG_TEXT_BYTES]; /* 10m/60m 1h/24h 1d/7d: these three for new sources */
	int64_t journal_window_ns;      /* 1h */
	int64_t min_retention_ns;       /* 0 */
};

enum config_kind {
	CONFIG_ADDRESS,         /* "HOST:PORT", "[IPV6]:PORT" */
	CONFIG_ADDRESS_OR_OFF,  /* the same, or "off" */
	CONFIG_LOOPBACK_OR_OFF, /* the same, of this machine alone */
	CONFIG_PATH,            /* absolute */
	CONFIG_PATH_OR_NONE,
	CONFIG_LEVEL,     /* of log.h */
	CONFIG_WHEN_FULL, /* "stall" or "thin" */
	CONFIG_RULES,     /* "10m/60m 1h/24h", "none": see storage/policy.h */
	CONFIG_COUNT,     /* unsigned */
	CONFIG_SIZE,      /* uint64_t, bytes */
	CONFIG_DURATION,  /* int64_t, ns */
};

/* One key of the file. Parsing, --print-config and the tests of the man page all work from this
 * table. */
/* How long a token may be good, whether the configuration says it or who makes it. */
#define TOKEN_LIFETIME_MIN_NS NS_PER_SECOND
#define TOKEN_LIFETIME_MAX_NS (365 * 86400 * NS_PER_SECOND)

struct config_key {
	const char *section, *name;
	enum config_kind kind;
	bool live;                /* a reload changes it; else a restart does */
	size_t offset;            /* of the value in struct config */
	uint64_t min, max;        /* COUNT, SIZE (bytes), DURATION (ns) */
	const char *default_text; /* of a daemon started as root */
	const char *meaning;
};

/* All keys, section by section. Static memory. */
const struct config_key *config_keys(size_t *ret_count);

void config_default(struct config *ret_config);

/* Read a file (and conf.d/ *.conf beside it, in byte order, later wins) over config_default().
 * Every problem is printed to `problems` as file:line: section.key: what, allowed values; returns
 * 0, or -EINVAL if there was any, -errno if a file cannot be read (which is printed too). The
 * output is written on success only. Main thread, before others start. */
int config_read(const char *path, struct config *ret_config, FILE *problems);

/* Where a configuration comes from. */
struct config_origin {
	const char *path;      /* NULL: CONFIG_DEFAULT_PATH, if it is there */
	const char *log_level; /* goes before that of the file; NULL: does not */
};

#define CONFIG_DEFAULT_PATH "/etc/holdfast/holdfastd.conf"

/* As config_read(), of an origin. */
int config_load(const struct config_origin *origin, struct config *ret_config, FILE *problems);

/* Keys, by their place in config_keys(). */
typedef uint64_t config_mask;

/* What is set, "" if nothing is. Borrowed from config. */
const char *config_journal_dir(const struct config *config);

/* What a reload makes of a running configuration: config is what was read, and becomes what holds; keys that are not
 * live stay as they run. ret_restart: those that differ; returns the live ones that do. */
config_mask config_merge(const struct config *running, struct config *config, config_mask *ret_restart);

/* "server.listen, storage.data_dir" (cut to size), "" for none; returns buf. */
const char *config_mask_format(config_mask mask, char *buf, size_t size);

/* The effective configuration as a file that config_read() reads back as the same. */
void config_print(const struct config *config, FILE *out);

#endif
