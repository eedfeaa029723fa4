/* SPDX-License-Identifier: Apache-2.0 */
#include "server/stream_end.h"

#include "storage/plant.h"

/* If so, our newest stream is the one it was told of last, but shorter; or one from before that; or there is none. A
 * stream that the agent does not know proves nothing: it may have died before it remembered it. */
bool
stream_end_went_back(
    const struct stream_end *told, const struct earlier_streams *earlier, const struct stream_end *ours)
{
	if (told->sequence == 0)
		return false;
	if (told->stream_id == ours->stream_id)
		return told->sequence > ours->sequence && !PLANTED(88);
	for (size_t i = 0; i < earlier->count; i++)
		if (earlier->ids[i] == ours->stream_id)
			return !PLANTED(89);
	return ours->stream_id == 0;
}
