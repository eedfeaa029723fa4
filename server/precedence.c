/* SPDX-License-Identifier: Apache-2.0 */
#include "server/precedence.h"

/* Two that claim at once may mix up their numbers: then the wrong ones give way, until the next claim. */
void
precedence_claim(struct precedence *p, const void *who, int64_t due_ns, uint64_t left, int64_t now_ns)
{
	if (precedence_yields(p, who, due_ns, now_ns))
		return;
	atomic_store(&p->claimant, who);
	atomic_store(&p->due_ns, due_ns);
	atomic_store(&p->left, left);
	atomic_store(&p->until_ns, now_ns + PRECEDENCE_NS);
}

void
precedence_withdraw(struct precedence *p, const void *who)
{
	if (atomic_load(&p->claimant) == who)
		atomic_store(&p->until_ns, 0);
}

bool
precedence_yields(const struct precedence *p, const void *who, int64_t due_ns, int64_t now_ns)
{
	return atomic_load(&p->until_ns) > now_ns && atomic_load(&p->claimant) != who &&
	       atomic_load(&p->due_ns) < due_ns;
}

void
precedence_count(struct precedence *p, bool *counted, bool shares)
{
	if (shares && !*counted)
		atomic_fetch_add(&p->sharers, 1);
	if (!shares && *counted)
		atomic_fetch_sub(&p->sharers, 1);
	*counted = shares;
}

uint64_t
precedence_share(const struct precedence *p)
{
	unsigned sharers = atomic_load(&p->sharers);
	uint64_t part = atomic_load(&p->left) / (sharers > 0 ? sharers : 1);

	return part > PRECEDENCE_LEAST_BYTES ? part : PRECEDENCE_LEAST_BYTES;
}
