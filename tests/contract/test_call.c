/*
 * TX6: npipe_call() is connect, transact, close in one; and WT1 to WT6, the
 * wait that opens nothing.
 */

#include <string.h>

#include "harness.h"

static npipe_server_options instances(unsigned max) {
  return (npipe_server_options){.type = NPIPE_MESSAGE, .max_instances = max};
}

/* ------------------------------------------------- a server that answers */

static void answer(test_stream* stream) {
  if (stream->ends) {
    end_close(stream->end);
    return;
  }
  const char* text = stream->end->user;
  const test_message* last = &stream->messages[stream->count - 1];
  if (text == NULL) /* an echo */
    write_begin(stream->end, stream->bytes + last->start, last->size);
  else
    write_begin(stream->end, text, strlen(text));
}

static void serve(test_host* host) {
  test_end* end = host_take(host);
  if (end == NULL) return;
  end->user = host->user;
  stream_begin(end, 0)->hook = answer;
}

static test_host* answering(world* w, const npipe_server_options* options,
                            char* text) {
  test_host* host = host_open(w, options);
  host->hook = serve;
  host->user = text;
  return host;
}

/* ------------------------------------------------- TX6 */

static void tx6_one_request_one_reply(void** state) {
  world* w = *state;
  npipe_server_options options = instances(1);
  test_host* host = answering(w, &options, NULL);
  for (int i = 0; i < 30; i++) {
    test_ask* ask = call_begin(w, "hello", 16, CONNECT_MS);
    CHECK_STATUS(0, ask_outcome(ask));
    CHECK(ask_has_reply(ask, "hello", 0));
  }
  CHECK_SIZE(30, host->arrivals); /* the library has closed each */
  test_ask* ask = call_begin(w, "", 16, CONNECT_MS);
  CHECK_STATUS(0, ask_outcome(ask));
  CHECK(ask_has_reply(ask, "", 0));
}

static void tx6_many_at_once_for_one_instance(void** state) {
  enum { CALLS = 40 };
  world* w = *state;
  npipe_server_options options = instances(1);
  answering(w, &options, NULL);
  test_ask* asks[CALLS];
  for (int i = 0; i < CALLS; i++)
    asks[i] =
        call_begin(w, "hello", 8, i % 2 ? CONNECT_MS : NPIPE_WAIT_FOREVER);
  for (int i = 0; i < CALLS; i++) {
    CHECK_STATUS(0, ask_outcome(asks[i]));
    CHECK(ask_has_reply(asks[i], "hello", 0));
  }
}

static void tx6_the_rest_of_a_longer_reply_is_lost(void** state) {
  world* w = *state;
  npipe_server_options options = instances(0);
  char text[] = "abcdefgh";
  answering(w, &options, text);
  test_ask* ask = call_begin(w, "x", 3, CONNECT_MS);
  CHECK_STATUS(0, ask_outcome(ask));
  CHECK(ask_has_reply(ask, "abc", NPIPE_MORE));
  ask = call_begin(w, "x", 0, CONNECT_MS);
  CHECK_STATUS(0, ask_outcome(ask));
  CHECK_SIZE(0, ask->size);
  CHECK_SIZE(NPIPE_MORE, ask->flags);
}

static void tx6_no_such_pipe(void** state) {
  world* w = *state;
  CHECK_STATUS(UV_ENOENT, ask_outcome(call_begin(w, "x", 8, 0)));
  CHECK_STATUS(UV_ENOENT, ask_outcome(call_begin(w, "x", 8, 60000)));
  CHECK_STATUS(UV_ENOENT,
               ask_outcome(call_begin(w, "x", 8, NPIPE_WAIT_FOREVER)));
  CHECK_STATUS(UV_ENOENT, npipe_last_error()->code);
}

static void tx6_a_busy_pipe(void** state) {
  world* w = *state;
  npipe_server_options options = instances(1);
  test_pair pair = pair_open(w, &options, NULL);
  CHECK_STATUS(UV_EBUSY, ask_outcome(call_begin(w, "x", 8, 0)));
  CHECK_STATUS(UV_ETIMEDOUT, ask_outcome(call_begin(w, "x", 8, 40)));
  CHECK_STATUS(UV_ETIMEDOUT,
               ask_outcome(call_begin(w, "x", 8, NPIPE_WAIT_DEFAULT)));
  test_ask* ask = call_begin(w, "x", 8, NPIPE_WAIT_FOREVER);
  world_settle(w);
  CHECK_SIZE(0, ask->calls);
  end_shut(pair.server);
  test_end* server = host_accept(pair.host);
  EXPECT_TEXT(server, 8, "x", 0);
  send_text(server, "y");
  CHECK_STATUS(0, ask_outcome(ask));
}

static void tx6_what_does_not_fit(void** state) {
  world* w = *state;
  int status;
  test_pair pair = pair_of(w, NPIPE_BYTE);
  CHECK_STATUS(UV_EINVAL, ask_outcome(call_begin(w, "x", 8, CONNECT_MS)));
  pair_shut(&pair);
  npipe_server_options options = {.type = NPIPE_MESSAGE,
                                  .direction = NPIPE_INBOUND};
  test_host* host = host_open(w, &options);
  CHECK_STATUS(UV_EACCES, ask_outcome(call_begin(w, "x", 8, CONNECT_MS)));
  host_shut(host);
  npipe_client_options bytes = {.read_mode = NPIPE_READ_BYTES};
  CHECK(call_try(w, w->name, 0, &bytes, "x", 8, &status) == NULL);
  CHECK_STATUS(UV_EINVAL, status);
  npipe_client_options writer = {.access = NPIPE_WRITE_ONLY};
  CHECK(call_try(w, w->name, 0, &writer, "x", 8, &status) == NULL);
  CHECK_STATUS(UV_EINVAL, status);
  CHECK(call_try(w, "a\\b", 0, NULL, "x", 8, &status) == NULL);
  CHECK_STATUS(UV_EINVAL, status);
  CHECK(call_try(w, w->name, -3, NULL, "x", 8, &status) == NULL);
  CHECK_STATUS(UV_EINVAL, status);
}

static void tx6_a_request_beyond_the_limit(void** state) {
  world* w = *state;
  npipe_server_options options = instances(0);
  answering(w, &options, NULL);
  npipe_client_options small = {.message_max_bytes = 4};
  int status;
  test_ask* ask = call_try(w, w->name, 5000, &small, "12345", 8, &status);
  if (ask) status = ask_outcome(ask); /* known at the call, or after connect */
  CHECK_STATUS(UV_EMSGSIZE, status);
  ask = call_try(w, w->name, 5000, &small, "1234", 8, &status);
  CHECK(ask != NULL);
  CHECK_STATUS(0, ask_outcome(ask));
}

static void tx6_the_server_goes_away(void** state) {
  world* w = *state;
  test_host* host = host_open_type(w, NPIPE_MESSAGE);
  for (int how = 0; how < 2; how++) {
    test_ask* ask = call_begin(w, "x", 8, CONNECT_MS);
    test_end* server = host_accept(host);
    EXPECT_TEXT(server, 8, "x", 0);
    if (how == 0) {
      end_shut(server);
      CHECK_STATUS(UV_EPIPE, ask_outcome(ask));
    } else {
      CHECK_STATUS(0, end_disconnect(server));
      CHECK_STATUS(UV_ECONNABORTED, ask_outcome(ask));
    }
  }
}

static void tx6_no_reply_in_time(void** state) {
  world* w = *state;
  test_host* host = host_open_type(w, NPIPE_MESSAGE);
  test_ask* ask = call_begin(w, "x", 8, 60);
  CHECK_STATUS(UV_ETIMEDOUT, ask_outcome(ask));
  test_end* server = host_accept(host);
  EXPECT_TEXT(server, 8, "x", 0); /* TX4: the request stays */
  EXPECT_STATUS(server, 8, UV_EOF);
}

static void tx6_giving_up(void** state) {
  world* w = *state;
  npipe_server_options options = instances(1);
  test_host* host = host_open(w, &options);
  test_ask* at_once = call_begin(w, "x", 8, CONNECT_MS);
  ask_abort(at_once);
  CHECK_STATUS(UV_ECANCELED, ask_outcome(at_once));
  world_settle(w);
  for (test_end* end; (end = host_take(host)) != NULL;) end_drop(end);
  test_ask* in_reply = call_begin(w, "x", 8, CONNECT_MS);
  host_accept(host);
  test_ask* in_wait = call_begin(w, "x", 8, NPIPE_WAIT_FOREVER);
  world_settle(w);
  ask_abort(in_reply);
  ask_abort(in_wait);
  CHECK_SIZE(0, in_reply->calls + in_wait->calls); /* never inside */
  CHECK_STATUS(UV_ECANCELED, ask_outcome(in_reply));
  CHECK_STATUS(UV_ECANCELED, ask_outcome(in_wait));
}

static void call_again(test_ask* ask) {
  int* left = ask->user;
  if (ask->status != 0 || --*left == 0) return;
  test_ask* next = call_begin(ask->world, "again", 8, CONNECT_MS);
  next->hook = call_again;
  next->user = left;
}

static void tx6_the_next_one_begins_in_the_callback(void** state) {
  world* w = *state;
  npipe_server_options options = instances(1);
  answering(w, &options, NULL);
  int left = 20;
  test_ask* ask = call_begin(w, "first", 8, CONNECT_MS);
  ask->hook = call_again;
  ask->user = &left;
  RUN_UNTIL(w, left == 0);
}

/* ------------------------------------------------- WT1, WT2 */

static void wt1_a_name_without_server_is_never_waited_for(void** state) {
  static const int times[] = {0, 60000, NPIPE_WAIT_FOREVER, NPIPE_WAIT_DEFAULT};
  world* w = *state;
  for (size_t i = 0; i < HARNESS_COUNT(times); i++)
    CHECK_STATUS(UV_ENOENT, ask_outcome(wait_begin(w, times[i])));
  CHECK_STATUS(UV_ENOENT, npipe_last_error()->code);
}

static void wt2_an_instance_listens(void** state) {
  static const int times[] = {0, 5000, NPIPE_WAIT_FOREVER, NPIPE_WAIT_DEFAULT};
  world* w = *state;
  npipe_server_options options = instances(1);
  test_host* host = host_open(w, &options);
  for (size_t i = 0; i < HARNESS_COUNT(times); i++)
    CHECK_STATUS(0, ask_outcome(wait_begin(w, times[i])));
  world_settle(w);
  CHECK_SIZE(0, host->arrivals); /* nothing was opened */
  end_open(w, NULL);             /* the one instance is still free */
}

/* ------------------------------------------------- WT3 */

static void wt3_all_instances_are_busy(void** state) {
  world* w = *state;
  npipe_server_options options = instances(1);
  options.default_wait_ms = 80;
  test_pair pair = pair_open(w, &options, NULL);
  CHECK_STATUS(UV_EBUSY, ask_outcome(wait_begin(w, 0)));
  CHECK_STATUS(UV_ETIMEDOUT, ask_outcome(wait_begin(w, 40)));
  test_ask* ask = wait_begin(w, NPIPE_WAIT_DEFAULT);
  CHECK_STATUS(UV_ETIMEDOUT, ask_outcome(ask));
  CHECK(ask->ended_ns - ask->begun_ns >= 75 * 1000000ull);
  CHECK_STATUS(0, end_disconnect(pair.server));
  CHECK_STATUS(UV_EBUSY, ask_outcome(wait_begin(w, 0))); /* ST5 */
}

/* ------------------------------------------------- WT4, WT5 */

static void wt4_all_who_wait_are_told_and_nothing_is_reserved(void** state) {
  enum { WAITERS = 5 };
  world* w = *state;
  npipe_server_options options = instances(1);
  test_pair pair = pair_open(w, &options, NULL);
  test_ask* asks[WAITERS];
  for (int i = 0; i < WAITERS; i++)
    asks[i] = wait_begin(w, i % 2 ? 20000 : NPIPE_WAIT_FOREVER);
  world_settle(w);
  for (int i = 0; i < WAITERS; i++) CHECK_SIZE(0, asks[i]->calls);
  end_shut(pair.server); /* a new instance listens in its place */
  for (int i = 0; i < WAITERS; i++) CHECK_STATUS(0, ask_outcome(asks[i]));
  end_open(w, NULL); /* whoever is first has it */
  CHECK_STATUS(UV_EBUSY, connect_outcome(w, w->name, 0, NULL));
}

static void wt5_an_instance_listens_again(void** state) {
  world* w = *state;
  npipe_server_options options = instances(1);
  test_pair pair = pair_open(w, &options, NULL);
  test_ask* ask = wait_begin(w, NPIPE_WAIT_FOREVER);
  end_shut(pair.client); /* wakes nobody */
  world_settle(w);
  CHECK_SIZE(0, ask->calls);
  CHECK_STATUS(0, end_disconnect(pair.server)); /* nor does this */
  world_settle(w);
  CHECK_SIZE(0, ask->calls);
  test_task* listen = listen_begin(pair.server, NPIPE_WAIT_FOREVER);
  CHECK_STATUS(0, ask_outcome(ask));
  CHECK_SIZE(0, listen->calls); /* the wait was no client */
  end_open(w, NULL);
  CHECK_STATUS(0, task_outcome(listen));
}

/* ------------------------------------------------- WT6 */

static void wt6_the_last_instance_closes(void** state) {
  world* w = *state;
  npipe_server_options options = instances(1);
  test_pair pair = pair_open(w, &options, NULL);
  test_ask* one = wait_begin(w, NPIPE_WAIT_FOREVER);
  test_ask* two = wait_begin(w, 20000);
  world_settle(w);
  host_shut(pair.host);
  world_settle(w);
  CHECK_SIZE(0, one->calls + two->calls); /* the name lives on (OP7) */
  end_shut(pair.server);
  CHECK_STATUS(UV_ENOENT, ask_outcome(one));
  CHECK_STATUS(UV_ENOENT, ask_outcome(two));
}

static void a_wait_can_be_given_up(void** state) {
  world* w = *state;
  npipe_server_options options = instances(1);
  pair_open(w, &options, NULL);
  test_ask* at_once = wait_begin(w, NPIPE_WAIT_FOREVER);
  test_ask* later = wait_begin(w, 20000);
  ask_abort(at_once);
  world_settle(w);
  ask_abort(later);
  CHECK_SIZE(0, later->calls);
  CHECK_STATUS(UV_ECANCELED, ask_outcome(at_once));
  CHECK_STATUS(UV_ECANCELED, ask_outcome(later));
}

static void wait_then_connect(test_ask* ask) {
  if (ask->status == 0)
    end_try(ask->world, ask->world->name, 0, NULL, ask->user);
}

/* The way of the old API: wait, and then open. */
static void connect_in_the_callback_of_a_wait(void** state) {
  world* w = *state;
  npipe_server_options options = instances(1);
  test_pair pair = pair_open(w, &options, NULL);
  test_end* client = NULL;
  test_ask* ask = wait_begin(w, NPIPE_WAIT_FOREVER);
  ask->hook = wait_then_connect;
  ask->user = &client;
  end_shut(pair.server);
  CHECK_STATUS(0, ask_outcome(ask));
  CHECK(client != NULL);
  CHECK_STATUS(0, end_outcome(client));
  send_text(client, "x");
  EXPECT_TEXT(host_accept(pair.host), 8, "x", 0);
}

static void a_wait_does_not_mind_access_and_mode(void** state) {
  world* w = *state;
  npipe_server_options options = {.type = NPIPE_BYTE,
                                  .direction = NPIPE_INBOUND};
  host_open(w, &options);
  npipe_client_options odd = {.access = NPIPE_READ_ONLY,
                              .read_mode = NPIPE_READ_MESSAGES};
  int status;
  test_ask* ask = wait_try(w, w->name, 5000, &odd, &status);
  CHECK_STATUS(0, status);
  CHECK_STATUS(0, ask_outcome(ask));
}

int main(int argc, char** argv) {
  static const struct CMUnitTest tests[] = {
      TEST(tx6_one_request_one_reply),
      TEST(tx6_many_at_once_for_one_instance),
      TEST(tx6_the_rest_of_a_longer_reply_is_lost),
      TEST(tx6_no_such_pipe),
      TEST(tx6_a_busy_pipe),
      TEST(tx6_what_does_not_fit),
      TEST(tx6_a_request_beyond_the_limit),
      TEST(tx6_the_server_goes_away),
      TEST(tx6_no_reply_in_time),
      TEST(tx6_giving_up),
      TEST(tx6_the_next_one_begins_in_the_callback),
      TEST(wt1_a_name_without_server_is_never_waited_for),
      TEST(wt2_an_instance_listens),
      TEST(wt3_all_instances_are_busy),
      TEST(wt4_all_who_wait_are_told_and_nothing_is_reserved),
      TEST(wt5_an_instance_listens_again),
      TEST(wt6_the_last_instance_closes),
      TEST(a_wait_can_be_given_up),
      TEST(connect_in_the_callback_of_a_wait),
      TEST(a_wait_does_not_mind_access_and_mode),
  };
  return harness_main(argc, argv, "call", tests, HARNESS_COUNT(tests), NULL);
}
