/* SPDX-License-Identifier: Apache-2.0 */
/* doctor: what is wrong, or will be, with the machine that the staging server runs on. Each check looks at one thing
 * and says what it found, why that matters, and what to do; also while holdfastd is down. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/timex.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <linux/magic.h>
#include <openssl/x509.h>

#include "proto/common/units.h"
#include "server/certificate.h"
#include "server/ctl/client.h"
#include "server/ctl/pick.h"
#include "server/ctl/pitfalls.h"
#include "server/pem.h"
#include "storage/disk.h"

enum {
	TEXT_BYTES = 512,
	OPEN_FILES_WANTED = 4096,
	CERTIFICATE_DAYS_LEFT = 10, /* when holdfastd is down nothing renews them */
	FREE_PERCENT_LEFT = 15,
	CLOCK_OFFSET_SECONDS = 60,
};

#define LOCKED_BYTES_WANTED (UINT64_C(300) << 20) /* ingest.memory_bytes, and rings */

struct patient {
	struct ctl *ctl;
	json_t *version; /* of the daemon; NULL: it does not answer, */
	int code;        /* for this reason, */
	char *said;      /* in words */
	const char *data_dir;
	json_t *findings;
};

enum severity { WARNING, BAD };

static void
found(struct patient *p, const char *check, enum severity severity, const char *what, const char *why, const char *next)
{
	json_array_append_new(
	    p->findings, json_pack("{s:s, s:s, s:s, s:s, s:s}", "check", check, "severity",
			     severity == BAD ? "BAD" : "WARNING", "what", what, "why", why, "next", next));
}

/* ---- the machine ---- */

static bool
is_on(const struct patient *p, long type)
{
	struct statfs fs;

	return statfs(p->data_dir, &fs) == 0 && (long)fs.f_type == type;
}

static void
check_kernel(struct patient *p)
{
	struct utsname name;
	char what[TEXT_BYTES];

	if (uname(&name) < 0 || !pitfall_kernel(name.release, name.version) || !is_on(p, EXT4_SUPER_MAGIC))
		return;
	snprintf(what, sizeof what, "kernel %s, %s", name.release, name.version);
	found(p, "kernel", BAD, what, "6.1.64 and 6.1.65 lose direct writes on ext4, and say nothing",
	    "install a newer kernel, start it, then: holdfastctl scrub start --all");
}

static void
check_io_uring(struct patient *p)
{
	struct hf_error err = {0};
	struct disk *d;

	if (disk_ring_create(4, &d, &err) == 0) {
		disk_destroy(d);
		return;
	}
	found(p, "io_uring", BAD, err.text, "holdfastd reads and writes by io_uring alone, and does not start without",
	    "sysctl kernel.io_uring_disabled; ulimit -l; in a container: its seccomp profile");
}

static void
check_clock(struct patient *p)
{
	struct timex t = {0};
	int state = adjtimex(&t);

	if (state >= 0 && state != TIME_ERROR && !(t.status & STA_UNSYNC))
		return;
	found(p, "clock", WARNING, "the clock is not kept by anything (adjtimex says that it is not synchronised)",
	    "points are named by this clock, lag is measured by it, and certificates begin and end by it",
	    "install chrony or systemd-timesyncd; what it says: timedatectl");
}

/* ---- the data directory ---- */

static void
check_file_system(struct patient *p)
{
	const struct pitfall_file_system *pitfall;
	struct statfs fs;
	char what[TEXT_BYTES];

	if (statfs(p->data_dir, &fs) < 0) {
		snprintf(what, sizeof what, "%s: %m", p->data_dir);
		found(p, "data_directory", BAD, what, "there is nothing that holdfastd could stage in",
		    "name it: holdfastctl doctor DIR; or mount what belongs there");
		return;
	}
	pitfall = pitfall_file_system((long)fs.f_type);
	if (pitfall == NULL)
		return;
	snprintf(what, sizeof what, "%s is on %s", p->data_dir, pitfall->name);
	found(p, "file_system", pitfall->is_bad ? BAD : WARNING, what, pitfall->why,
	    "put it on ext4 or XFS on a disk of its own (storage.data_dir in holdfastd.conf)");
}

static void
check_space(struct patient *p)
{
	char what[TEXT_BYTES], left[UNITS_TEXT_BYTES];
	struct statvfs fs;

	if (statvfs(p->data_dir, &fs) < 0)
		return;
	if (fs.f_flag & ST_RDONLY)
		found(p, "space", BAD, "the data directory is mounted read-only", "nothing can be staged",
		    "dmesg tells whether the file system has an error; after fsck: mount -o remount,rw");
	snprintf(what, sizeof what, "%s free in %s", size_format(fs.f_bavail * fs.f_frsize, left), p->data_dir);
	if (fs.f_bavail * 100 < fs.f_blocks * FREE_PERCENT_LEFT)
		found(p, "space", WARNING, what, "when there is no room left nothing more is taken, and agents wait",
		    "holdfastctl status says what gives most; holdfastctl quota list");
	if (fs.f_files > 0 && fs.f_favail * 100 < fs.f_files)
		found(p, "space", BAD, "hardly an inode is left in the data directory",
		    "no segment of a journal can be begun", "df -i; move other files elsewhere");
}

/* ---- the daemon ---- */

static void
check_daemon(struct patient *p)
{
	if (p->version == NULL && p->code == EXIT_NOT_ALLOWED)
		found(p, "daemon", WARNING, p->said,
		    "whether holdfastd runs, its limits, its certificates and its sources cannot be looked at",
		    "sudo holdfastctl doctor");
	else if (p->version == NULL)
		found(p, "daemon", BAD, p->said, "agents wait, and every second makes the newest point older",
		    "systemctl status holdfastd; journalctl -u holdfastd -n 50");
	else if (strcmp(pick_text(p->version, "version"), HOLDFAST_VERSION) != 0)
		found(p, "daemon", WARNING, "holdfastd is of another version than holdfastctl",
		    "it was updated and not started again, or only one of the two was", "systemctl restart holdfastd");
}

static void
check_threads(struct patient *p)
{
	if (p->version != NULL && pick(p->version, "silentThread") != NULL)
		found(p, "threads", BAD, pick_text(p->version, "silentThread.text"),
		    "the sources it serves stand still, and their newest points grow old; what was acknowledged is "
		    "safe",
		    pick_text(p->version, "silentThread.cure"));
}

static void
check_limit(struct patient *p, const char *line, const char *name, uint64_t wanted, const char *why, const char *next)
{
	char what[TEXT_BYTES];
	uint64_t limit;

	if (!pitfall_limit(line, name, &limit) || limit >= wanted)
		return;
	snprintf(what, sizeof what, "%s of holdfastd: %llu", name, (unsigned long long)limit);
	found(p, "limits", WARNING, what, why, next);
}

/* Root may lock what it likes. */
static bool
runs_as_root(const char *proc)
{
	struct stat st;

	return stat(proc, &st) == 0 && st.st_uid == 0;
}

static void
check_limits(struct patient *p)
{
	char path[64], line[256];
	FILE *f;

	snprintf(path, sizeof path, "/proc/%d/limits", (int)pick_integer(p->version, "processID"));
	f = p->version != NULL ? fopen(path, "re") : NULL;
	while (f != NULL && fgets(line, sizeof line, f) != NULL) {
		check_limit(p, line, "Max open files", OPEN_FILES_WANTED,
		    "every agent takes a descriptor, every source a dozen", "LimitNOFILE=65536 in the unit");
		if (!runs_as_root(path))
			check_limit(p, line, "Max locked memory", LOCKED_BYTES_WANTED,
			    "buffers that cannot be locked are mapped anew for every write",
			    "LimitMEMLOCK=512M in the unit");
	}
	if (f != NULL)
		fclose(f);
}

/* ---- certificates ---- */

static void
found_certificate(struct patient *p, enum severity severity, const char *what, bool is_ours)
{
	found(p, "certificates", severity, what,
	    is_ours ? "agents trust no server whose certificate has expired"
		    : "its agent is let in no longer when it has expired",
	    is_ours
		? "holdfastctl cert list; holdfastctl cert renew; is the clock right?"
		: "start its agent, which renews it; when it has expired: holdfastctl token create --source SOURCE");
}

static void
check_told_certificates(struct patient *p)
{
	json_t *list, *c;
	char what[TEXT_BYTES];
	size_t i;

	if (client_list(p->ctl->client, &list, "/v1/certificates?") != EXIT_DONE)
		return;
	json_array_foreach (list, i, c) {
		const char *state = pick_text(c, "state");
		bool expired = strcmp(state, "EXPIRED") == 0;

		snprintf(what, sizeof what, "the certificate of %s %s at %s", pick_text(c, "subject"),
		    expired ? "expired" : "expires", pick_text(c, "notAfterDateTime"));
		if (expired || strcmp(state, "EXPIRING") == 0)
			found_certificate(p, expired ? BAD : WARNING, what, strcmp(pick_text(c, "role"), "AGENT") != 0);
	}
	json_decref(list);
}

static void
check_certificate_file(struct patient *p, const char *dir, const char *name)
{
	int64_t now_ns = clock_real_ns(), expires_ns;
	char what[TEXT_BYTES], when[UNITS_TEXT_BYTES];
	X509 *certificate = NULL;

	if (pem_load_certificate(dir, name, &certificate, NULL) < 0 || certificate == NULL)
		return; /* there is none yet, or it is not ours to read */
	expires_ns = certificate_time_ns(X509_get0_notAfter(certificate));
	X509_free(certificate);
	snprintf(what, sizeof what, "%s/%s is good until %s", dir, name, time_format(expires_ns, when));
	if (expires_ns < now_ns + CERTIFICATE_DAYS_LEFT * 86400 * NS_PER_SECOND)
		found_certificate(p, expires_ns < now_ns ? BAD : WARNING, what, true);
}

static void
check_certificates(struct patient *p)
{
	char dir[TEXT_BYTES];

	if (p->version != NULL) {
		check_told_certificates(p);
		return;
	}
	snprintf(dir, sizeof dir, "%s/pki", p->data_dir);
	check_certificate_file(p, dir, "ca.pem");
	check_certificate_file(p, dir, "server.pem");
}

/* ---- the identity ---- */

static void
check_identity(struct patient *p)
{
	const char *unsaved = pick_text(p->version, "identityBackup.unsavedSinceDateTime"),
		   *taken = pick_text(p->version, "identityBackup.takenDateTime");
	char what[TEXT_BYTES];

	if (unsaved[0] == '\0')
		return;
	if (taken[0] == '\0')
		snprintf(what, sizeof what, "there is no backup of this server's identity");
	else
		snprintf(
		    what, sizeof what, "a source or a CA of %s is not in the identity's backup of %s", unsaved, taken);
	found(p, "identity", WARNING, what,
	    "when this machine is lost, what is not in a backup is enrolled anew, machine by machine",
	    "holdfastctl identity backup FILE; keep it elsewhere");
}

/* ---- the sources ---- */

static void
check_sources(struct patient *p)
{
	json_t *sources, *source;
	char what[TEXT_BYTES];
	size_t i;

	if (p->version == NULL || client_list(p->ctl->client, &sources, "/v1/source-servers?") != EXIT_DONE)
		return;
	json_array_foreach (sources, i, source) {
		double offset = json_number_value(pick(source, "agent.clockOffsetSeconds"));

		snprintf(what, sizeof what, "the clock of %s (%s) is %.0f s %s ours",
		    pick_text(source, "sourceServerID"),
		    pick_text(source, "sourceProperties.identificationHints.hostname"), fabs(offset),
		    offset > 0 ? "ahead of" : "behind");
		if (pick_bool(source, "agent.connected") && fabs(offset) > CLOCK_OFFSET_SECONDS)
			found(p, "source_clock", WARNING, what, "its logs and its points in time are hard to match",
			    "install chrony on one or both");
	}
	json_decref(sources);
}

/* ---- the visit ---- */

static const struct {
	const char *name;
	void (*run)(struct patient *p);
} checks[] = {
    {"daemon", check_daemon},
    {"threads", check_threads},
    {"kernel", check_kernel},
    {"io_uring", check_io_uring},
    {"limits", check_limits},
    {"file_system", check_file_system},
    {"space", check_space},
    {"clock", check_clock},
    {"certificates", check_certificates},
    {"identity", check_identity},
    {"source_clock", check_sources},
};

/* As the daemon says, as is asked for, or where it is when nobody says. */
static const char *
choose_data_dir(const struct ctl *ctl, const json_t *version)
{
	if (ctl->operand_count > 0)
		return ctl->operands[0];
	return version != NULL ? pick_text(version, "dataDirectory") : "/var/lib/holdfast";
}

static void
print_findings(const struct patient *p)
{
	json_t *finding;
	size_t i;

	json_array_foreach (p->findings, i, finding) {
		print_sentence(8, "%-7s %s: %s", pick_text(finding, "severity"), pick_text(finding, "check"),
		    pick_text(finding, "what"));
		print_sentence(14, "        why:  %s", pick_text(finding, "why"));
		print_sentence(14, "        next: %s", pick_text(finding, "next"));
	}
	if (json_array_size(p->findings) == 0)
		print_sentence(4, "nothing is wrong: %zu checks of %s", sizeof checks / sizeof checks[0], p->data_dir);
}

/* Why it does not answer is a finding like the others, and said once. */
static void
ask_daemon(struct patient *p)
{
	size_t len;
	FILE *out = open_memstream(&p->said, &len);

	if (out == NULL)
		abort();
	ctl_say_to(out, "");
	p->code = client_get(p->ctl->client, &p->version, "/v1/version");
	ctl_say_to(NULL, NULL);
	fclose(out);
	p->said[strcspn(p->said, "\n")] = '\0';
}

int
run_doctor(struct ctl *ctl)
{
	struct patient p = {.ctl = ctl, .findings = json_array()};
	json_t *checked = json_array();
	int code;

	ask_daemon(&p);
	p.data_dir = choose_data_dir(ctl, p.version);
	for (size_t i = 0; i < sizeof checks / sizeof checks[0]; i++) {
		checks[i].run(&p);
		json_array_append_new(checked, json_string(checks[i].name));
	}
	code = json_array_size(p.findings) > 0 ? EXIT_NOT_MET : EXIT_DONE;
	if (ctl_given(ctl, OPT_JSON))
		print_json(json_pack(
		    "{s:O, s:O, s:s}", "findings", p.findings, "checked", checked, "dataDirectory", p.data_dir));
	else
		print_findings(&p);
	json_decref(checked);
	json_decref(p.findings);
	json_decref(p.version);
	free(p.said);
	return code;
}
