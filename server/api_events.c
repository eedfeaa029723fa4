/* SPDX-License-Identifier: Apache-2.0 */
/* GET /v1/events: NDJSON, one event a line, oldest first. With follow=1 the answer never ends: new
 * events are sent as they come, and news (news.h).
 *
 * One feed at a time is in one place: with the helper (QUERY), waiting until the peer has taken
 * what was written (ROOM), or asleep for a second (SLEEP). The peer may go away in each of them;
 * only QUERY must then wait for the helper. */
#include "server/api_call.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "server/api_json.h"
#include "server/news.h"

enum {
	EVENTS_PER_QUERY = 500,
	EVENTS_LOW_BYTES = 65536,
	POLL_SECONDS = 1,
	TAIL_MAX = 100000, /* as many as the registry keeps */
};

enum feed_state { FEED_QUERY, FEED_ROOM, FEED_SLEEP };

struct feed {
	struct call *call;
	enum feed_state state;
	struct helper_job job;
	struct event *timer;
	bool follow, begun, gone;
	uint64_t after;  /* the last number sent */
	uint64_t tail;   /* > 0: begin with that many last ones; done by the first query */
	uint64_t newest; /* a hint to it */
	uint64_t news;   /* the place of the next line that is told and not kept, to who follows */
	struct id source;
	struct registry_event *events;
	size_t count;
	int status;
	struct hf_error err;
};

static struct feed *
feed_from_job(struct helper_job *job)
{
	return (struct feed *)((char *)job - offsetof(struct feed, job));
}

/* The request has ended; so does the feed. */
static void
free_feed(struct feed *f)
{
	if (f->timer != NULL)
		event_free(f->timer);
	if (f->call != NULL)
		call_free(f->call);
	free(f->events);
	free(f);
}

static void
on_feed_gone(void *arg)
{
	struct feed *f = arg;

	f->gone = true;
	f->call->req = NULL;
	if (f->state != FEED_QUERY)
		free_feed(f);
}

/* ---- on the helper ---- */

/* Read on to the newest event there is, and go back from it. */
static int
seek_tail(struct feed *f, struct registry *r)
{
	struct registry_event *events = NULL;
	size_t count;

	do {
		int status = registry_list_events(r, f->newest, EVENTS_PER_QUERY, &events, &count, &f->err);

		if (status < 0)
			return status;
		if (count > 0)
			f->newest = events[count - 1].number;
		free(events);
	} while (count == EVENTS_PER_QUERY);
	f->after = f->newest > f->tail ? f->newest - f->tail : 0;
	f->tail = 0;
	return 0;
}

static void
query_work(struct helper_job *job)
{
	struct feed *f = feed_from_job(job);
	struct registry *r = server_registry(f->call->api->sv);

	f->status = f->tail > 0 ? seek_tail(f, r) : 0;
	if (f->status == 0)
		f->status = registry_list_events(r, f->after, EVENTS_PER_QUERY, &f->events, &f->count, &f->err);
}

/* ---- on the loop ---- */

static void on_query_done(struct helper_job *job);

static void
start_query(struct feed *f)
{
	f->state = FEED_QUERY;
	f->job.work = query_work;
	f->job.done = on_query_done;
	if (helper_post(f->call->api->helper, &f->job) == 0)
		return;
	f->status = hf_error_say(&f->err, -EAGAIN, "too many requests wait for the registry");
	on_query_done(&f->job);
}

static void
on_timer(evutil_socket_t fd, short what, void *arg)
{
	start_query(arg);
}

static void
end_feed(struct feed *f)
{
	http_stream_end(f->call->req);
	free_feed(f);
}

/* The peer has taken it: more at once if there is more, else later, else that was all. */
static void
on_feed_room(void *arg)
{
	struct timeval pause = {.tv_sec = POLL_SECONDS};
	struct feed *f = arg;

	assert(f->state == FEED_ROOM);
	if (f->count == EVENTS_PER_QUERY) {
		start_query(f);
	} else if (f->follow) {
		f->state = FEED_SLEEP;
		event_add(f->timer, &pause);
	} else {
		end_feed(f);
	}
}

static void
send_event(struct feed *f, const struct registry_event *e)
{
	char *line = api_json_line(api_json_event(e));

	if (line != NULL)
		http_stream_add(f->call->req, line, strlen(line));
	free(line);
}

static void
send_news(struct feed *f)
{
	struct news *news = server_news(f->call->api->sv);
	char *line;

	while (f->follow && (line = news_next(news, &f->source, &f->news)) != NULL) {
		http_stream_add(f->call->req, line, strlen(line));
		free(line);
	}
}

static void
send_events(struct feed *f)
{
	for (size_t i = 0; i < f->count; i++) {
		const struct registry_event *e = &f->events[i];

		f->after = e->number;
		if (f->source.text[0] == '\0' || strcmp(f->source.text, e->source.text) == 0)
			send_event(f, e);
	}
	if (f->after > f->call->api->newest_event)
		f->call->api->newest_event = f->after;
	free(f->events);
	f->events = NULL;
}

static void
fail_feed(struct feed *f)
{
	if (f->begun) {
		http_stream_abort(f->call->req);
		free_feed(f);
		return;
	}
	http_request_watch(f->call->req, NULL, NULL); /* answered at once: nobody to tell */
	call_reply_error(f->call, f->status, f->err.text, NULL);
	f->call = NULL;
	free_feed(f);
}

static void
on_query_done(struct helper_job *job)
{
	struct feed *f = feed_from_job(job);

	if (f->gone) {
		free_feed(f);
		return;
	}
	if (job->cancelled)
		f->status = hf_error_say(&f->err, -ESHUTDOWN, "the server is shutting down");
	if (f->status < 0) {
		fail_feed(f);
		return;
	}
	if (!f->begun)
		http_stream_begin(f->call->req, 200, "application/x-ndjson", "");
	f->begun = true;
	send_events(f);
	send_news(f);
	f->state = FEED_ROOM;
	http_stream_wait(f->call->req, EVENTS_LOW_BYTES, on_feed_room, f);
}

/* ---- the route ---- */

int
prepare_events(struct call *call, struct hf_error *err)
{
	uint64_t number;
	int r = call_param_source(call, false, err);

	if (r == 0)
		r = call_param_number(call, "after", INT64_MAX, 0, &number, err);
	if (r == 0)
		r = call_param_number(call, "tail", TAIL_MAX, 0, &number, err);
	if (r == 0)
		r = call_param_number(call, "follow", 1, 0, &number, err);
	return r;
}

void
get_events(struct call *call)
{
	struct feed *f = calloc(1, sizeof *f);
	uint64_t follow = 0;

	if (!http_request_lasts(call->req)) {
		free(f);
		call_reply_error(
		    call, -EAGAIN, "too many are reading events here", "end some of them, or ask the other socket");
		return;
	}
	if (f != NULL)
		f->timer = evtimer_new(server_base(call->api->sv), on_timer, f);
	if (f == NULL || f->timer == NULL) {
		free(f);
		call_reply_no_memory(call, "a stream of events");
		return;
	}
	f->call = call;
	f->source = call->source;
	f->newest = call->api->newest_event;
	f->news = news_end(server_news(call->api->sv));
	(void)call_param_number(call, "after", INT64_MAX, 0, &f->after, NULL); /* prepare_events() has checked them */
	(void)call_param_number(call, "tail", TAIL_MAX, 0, &f->tail, NULL);
	(void)call_param_number(call, "follow", 1, 0, &follow, NULL);
	f->follow = follow == 1;
	http_request_watch(call->req, on_feed_gone, f);
	start_query(f);
}
