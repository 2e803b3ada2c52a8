/*
 * Who is at the other end: ID1, ID5, npipe_next_peer() and npipe_reject(),
 * server_user; and who may connect, by unix_mode and windows_sddl.
 */
#include <stdio.h>
#include <string.h>

#include "child.h"
#include "harness.h"

static char shared_dir[OS_PATH_BYTES]; /* "" where there is none */

/* ------------------------------------------------- roles */

static int run_until_killed(world* w) {
  while (uv_loop_alive(&w->loop)) uv_run(&w->loop, UV_RUN_ONCE);
  return 9;
}

static int play_client(const char* name) {
  world* w = world_new();
  npipe_client_options options = {.any_server = 1};
  test_end* end = end_connect(w, name, CONNECT_MS, &options);
  int status = end_outcome(end);
  child_say(status == 0 ? "in" : status_name(status));
  if (status != 0) return 1;
  test_task* read = read_begin(end, 64);
  child_say(status_name(task_outcome(read)));
  return run_until_killed(w);
}

static int play_server(const char* name) {
  world* w = world_new();
  npipe_server_options options = {.type = NPIPE_MESSAGE};
  test_host* host;
  int status = host_try(w, name, &options, &host);
  child_say(status == 0 ? "ready" : status_name(status));
  return run_until_killed(w);
}

/* ------------------------------------------------- ID1 */

static npipe_peer peer_of(test_end* end, unsigned want) {
  npipe_peer peer;
  memset(&peer, 0x5A, sizeof peer);
  CHECK_STATUS(0, peer_try(end, want, &peer));
  if (!(peer.known & NPIPE_PEER_PID)) CHECK_SIZE(0, peer.pid);
  if (!(peer.known & NPIPE_PEER_GROUP)) CHECK_SIZE(0, peer.gid);
  if (!(peer.known & NPIPE_PEER_ID)) CHECK_SIZE(0, peer.id[0]);
  if (!(peer.known & NPIPE_PEER_USER)) CHECK_SIZE(0, peer.user[0]);
  CHECK(memchr(peer.id, 0, sizeof peer.id) != NULL);
  CHECK(memchr(peer.user, 0, sizeof peer.user) != NULL);
  return peer;
}

static void id1_both_ends_of_one_process(void** state) {
  world* w = *state;
  for (int type = NPIPE_BYTE; type <= NPIPE_MESSAGE; type++) {
    test_pair pair = pair_of(w, (npipe_type) type);
    test_end* ends[2] = {pair.server, pair.client};
    npipe_peer peers[2];
    for (int i = 0; i < 2; i++) {
      peers[i] = peer_of(ends[i], NPIPE_PEER_PID | NPIPE_PEER_ID);
      CHECK(peers[i].known & NPIPE_PEER_PID);
      CHECK_SIZE(uv_os_getpid(), peers[i].pid);
      CHECK(peers[i].known & NPIPE_PEER_ID);
      CHECK(peers[i].id[0] != 0);
    }
    CHECK(strcmp(peers[0].id, peers[1].id) == 0);
    pair_shut(&pair);
  }
}

static void id1_a_client_of_another_process(void** state) {
  world* w = *state;
  test_host* host = host_open_type(w, NPIPE_MESSAGE);
  test_child* child = child_start(w, "client", w->name);
  test_end* server = host_accept(host);
  uint64_t pid = (uint64_t) child->process.pid;
  CHECK(pid != (uint64_t) uv_os_getpid());
  CHECK_SIZE(pid, peer_of(server, NPIPE_PEER_PID).pid);
  child_await(child, "in");
  child_kill(child);
  RUN_UNTIL(w, end_state(server) == NPIPE_STATE_CLOSING);
  CHECK_SIZE(pid, peer_of(server, NPIPE_PEER_PID).pid); /* also afterwards */
  CHECK_STATUS(0, end_disconnect(server));
  npipe_peer peer;
  CHECK_STATUS(UV_ENOTCONN, peer_try(server, NPIPE_PEER_PID, &peer));
}

static void id1_a_server_of_another_process(void** state) {
  world* w = *state;
  test_child* child = child_start(w, "server", w->name);
  child_await(child, "ready");
  test_end* client = end_open(w, NULL);
  uint64_t pid = (uint64_t) child->process.pid;
  CHECK_SIZE(pid, peer_of(client, NPIPE_PEER_PID).pid);
  child_kill(child);
  EXPECT_STATUS(client, 8, UV_EOF);
  CHECK_SIZE(pid, peer_of(client, NPIPE_PEER_PID).pid);
  host_shut(host_open(w, NULL)); /* takes away what it left */
}

/* The next client of an instance is another one. */
static void id1_each_client_of_an_instance(void** state) {
  world* w = *state;
  npipe_server_options options = {.type = NPIPE_MESSAGE, .max_instances = 1};
  test_pair pair = pair_open(w, &options, NULL);
  CHECK_SIZE(uv_os_getpid(), peer_of(pair.server, NPIPE_PEER_PID).pid);
  CHECK_STATUS(0, end_disconnect(pair.server));
  npipe_peer peer;
  CHECK_STATUS(UV_ENOTCONN, peer_try(pair.server, NPIPE_PEER_PID, &peer));
  test_task* listen = listen_begin(pair.server, NPIPE_WAIT_FOREVER);
  CHECK_STATUS(UV_ENOTCONN, peer_try(pair.server, NPIPE_PEER_PID, &peer));
  test_child* child = child_start(w, "client", w->name);
  CHECK_STATUS(0, task_outcome(listen));
  CHECK_SIZE((size_t) child->process.pid,
             peer_of(pair.server, NPIPE_PEER_PID).pid);
  child_await(child, "in");
  CHECK_STATUS(0, end_disconnect(pair.server));
  child_await(child, "ECONNABORTED"); /* as seen from another process */
}

/* ------------------------------------------------- ID5 */

static void id5_the_name_of_the_user(void** state) {
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  uv_passwd_t own;
  CHECK_STATUS(0, uv_os_get_passwd(&own));
  npipe_peer without = peer_of(pair.server, NPIPE_PEER_ID);
  npipe_peer with = peer_of(pair.server, NPIPE_PEER_ALL);
  CHECK(!(without.known & NPIPE_PEER_USER)); /* nobody asked for it */
  CHECK(strcmp(without.id, with.id) == 0);
  if (with.known & NPIPE_PEER_USER) {
    const char* name = strrchr(with.user, '\\');
    name = name ? name + 1 : with.user;
    if (strcmp(name, own.username) != 0)
      print_error("%s is not %s\n", with.user, own.username);
    CHECK(strcmp(name, own.username) == 0);
  } else {
    print_message("the name of %s is not known here\n", with.id);
    CHECK(own.username[0] == 0 || own.uid == (unsigned long) -1);
  }
  if (!os_has_sddl()) { /* Unix */
    char uid[32];
    snprintf(uid, sizeof uid, "%lu", (unsigned long) own.uid);
    CHECK(strcmp(uid, with.id) == 0);
    CHECK(with.known & NPIPE_PEER_GROUP);
    CHECK_SIZE(own.gid, with.gid);
  }
  uv_os_free_passwd(&own);
}

static void id5_a_client_of_another_user(void** state) {
  world* w = *state;
  unsigned uid, gid;
  if (!shared_dir[0] || !os_other_user(&uid, &gid))
    SKIP_BECAUSE("ID5", "this process cannot become another user");
  npipe_server_options options = {.type = NPIPE_MESSAGE,
                                  .allow = NPIPE_ALLOW_EVERYONE};
  test_host* host = host_open(w, &options);
  test_child* child = child_start_as(w, "client", w->name, uid, gid);
  if (child == NULL)
    SKIP_BECAUSE("ID5", "another user cannot run this program");
  npipe_peer peer = peer_of(host_accept(host), NPIPE_PEER_ALL);
  char text[32];
  snprintf(text, sizeof text, "%u", uid);
  CHECK(strcmp(text, peer.id) == 0);
  CHECK_SIZE(gid, peer.gid);
  CHECK_SIZE((size_t) child->process.pid, peer.pid);
}

/* ------------------------------------------------- before the accept */

static void a_server_looks_before_it_accepts(void** state) {
  world* w = *state;
  test_host* host = host_open_type(w, NPIPE_MESSAGE);
  npipe_peer peer;
  CHECK_STATUS(UV_EAGAIN,
               CALL(w, npipe_next_peer(host->server, NPIPE_PEER_PID, &peer)));
  test_child* child = child_start(w, "client", w->name);
  RUN_UNTIL(w, host->arrivals == 1);
  test_end* own = end_open(w, NULL);
  RUN_UNTIL(w, host->arrivals == 2);
  for (int i = 0; i < 3; i++) { /* to look takes nobody */
    CHECK_STATUS(0,
                 CALL(w, npipe_next_peer(host->server, NPIPE_PEER_PID, &peer)));
    CHECK_SIZE((size_t) child->process.pid, peer.pid);
  }
  CHECK_STATUS(0, CALL(w, npipe_reject(host->server)));
  child_await(child, "ECONNABORTED");
  CHECK_STATUS(0,
               CALL(w, npipe_next_peer(host->server, NPIPE_PEER_PID, &peer)));
  CHECK_SIZE(uv_os_getpid(), peer.pid);
  test_end* server = host_take(host);
  CHECK(server != NULL);
  CHECK_STATUS(UV_EAGAIN,
               CALL(w, npipe_next_peer(host->server, NPIPE_PEER_PID, &peer)));
  send_text(own, "x");
  EXPECT_TEXT(server, 8, "x", 0);
}

static void reject_in_the_callback_of_an_arrival(test_host* host) {
  if (CALL(host->world, npipe_reject(host->server)) != 0)
    world_violation(host->world, "no reject in a callback");
}

static void a_server_may_reject_everybody(void** state) {
  world* w = *state;
  npipe_server_options options = {.type = NPIPE_MESSAGE, .max_instances = 2};
  test_host* host = host_open(w, &options);
  host->hook = reject_in_the_callback_of_an_arrival;
  for (int i = 0; i < 10; i++) {
    test_end* client = end_open(w, NULL);
    EXPECT_STATUS(client, 8, UV_ECONNABORTED);
    CHECK_STATUS(UV_ECONNABORTED, task_outcome(write_begin(client, "x", 1)));
  }
}

/* ------------------------------------------------- server_user */

static void the_server_has_to_be_of_this_user(void** state) {
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  char id[NPIPE_ID_BYTES];
  snprintf(id, sizeof id, "%s", peer_of(pair.client, NPIPE_PEER_ID).id);
  const char* other = os_has_sddl() ? "S-1-5-32-546" : "4711";
  npipe_client_options options = {.server_user = id};
  CHECK_STATUS(0, connect_outcome(w, w->name, CONNECT_MS, &options));
  options.any_server = 1; /* does not matter then */
  CHECK_STATUS(0, connect_outcome(w, w->name, CONNECT_MS, &options));
  options.server_user = other;
  CHECK_STATUS(UV_EACCES, connect_outcome(w, w->name, CONNECT_MS, &options));
  options.any_server = 0;
  CHECK_STATUS(UV_EACCES, connect_outcome(w, w->name, CONNECT_MS, &options));
  world_settle(w);
  for (test_end* end; (end = host_take(pair.host)) != NULL;)
    EXPECT_STATUS(end, 8, UV_EOF); /* who came has sent nothing */
}

static void the_options_are_copied(void** state) {
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  char id[NPIPE_ID_BYTES];
  snprintf(id, sizeof id, "%s", peer_of(pair.client, NPIPE_PEER_ID).id);
  npipe_client_options options = {.server_user = id};
  test_end* end = end_connect(w, w->name, CONNECT_MS, &options);
  memset(id, 'x', sizeof id);
  memset(&options, 'x', sizeof options);
  CHECK_STATUS(0, end_outcome(end));
}

static void what_is_no_user_is_refused(void** state) {
  static const char* const bad[] = {
      "",   "nobody in particular",   "-1", "0x0", "S-", " 0",
      "1 ", "99999999999999999999999"};
  world* w = *state;
  host_open_type(w, NPIPE_MESSAGE);
  test_end* end;
  for (size_t i = 0; i < HARNESS_COUNT(bad); i++) {
    npipe_client_options options = {.server_user = bad[i]};
    CHECK_STATUS(UV_EINVAL, end_try(w, w->name, 0, &options, &end));
    CHECK_STATUS(UV_EINVAL, npipe_last_error()->code);
  }
  char longest[NPIPE_ID_BYTES + 1];
  memset(longest, '1', sizeof longest);
  longest[NPIPE_ID_BYTES] = 0;
  npipe_client_options options = {.server_user = longest};
  CHECK_STATUS(UV_EINVAL, end_try(w, w->name, 0, &options, &end));
}

/* ------------------------------------------------- who may connect */

/* The permission bits of the one socket in the directory; -1 without one. */
static int socket_mode(world* w) {
  uv_fs_t scan, stat;
  uv_dirent_t entry;
  char path[OS_PATH_BYTES + NPIPE_NAME_BYTES];
  int mode = -1;
  CHECK(uv_fs_scandir(&w->loop, &scan, shared_dir, 0, NULL) >= 0);
  while (uv_fs_scandir_next(&scan, &entry) == 0) {
    if (entry.type != UV_DIRENT_SOCKET) continue;
    snprintf(path, sizeof path, "%s/%s", shared_dir, entry.name);
    if (uv_fs_lstat(&w->loop, &stat, path, NULL) == 0)
      mode = (int) (stat.statbuf.st_mode & 0777);
    uv_fs_req_cleanup(&stat);
  }
  uv_fs_req_cleanup(&scan);
  return mode;
}

static void unix_mode_is_that_of_the_socket(void** state) {
  static const unsigned modes[] = {0600, 0660, 0666, 0622, 0777};
  world* w = *state;
  if (!shared_dir[0]) SKIP_BECAUSE("unix_mode", "this system has no modes");
  for (size_t i = 0; i < HARNESS_COUNT(modes); i++) {
    npipe_server_options options = {.unix_mode = modes[i]};
    test_host* host = host_open(w, &options);
    CHECK_SIZE(modes[i], socket_mode(w));
    CHECK_STATUS(0, connect_outcome(w, w->name, CONNECT_MS, NULL));
    host_shut(host);
    CHECK(socket_mode(w) == -1);
  }
}

static void unix_mode_beyond_0777_is_refused(void** state) {
  world* w = *state;
  npipe_server_options options = {.unix_mode = 01000};
  test_host* host;
  CHECK_STATUS(UV_EINVAL, host_try(w, w->name, &options, &host));
  options.unix_mode = 0777;
  CHECK_STATUS(0, host_try(w, w->name, &options, &host));
}

static void windows_sddl_is_the_access_list(void** state) {
  world* w = *state;
  char good[] = "D:P(A;;FA;;;WD)";
  npipe_server_options options = {.windows_sddl = good};
  test_host* host = host_open(w, &options);
  memset(good, 'x', sizeof good - 1); /* it was copied */
  for (int i = 0; i < 6; i++)         /* also for later instances */
    end_open(w, NULL);
  host_shut(host);
  options.windows_sddl = "this is no security descriptor";
  int want = os_has_sddl() ? UV_EINVAL : 0; /* Unix ignores it */
  CHECK_STATUS(want, host_try(w, w->name, &options, &host));
}

static const test_role roles[] = {
    {"client", play_client}, {"server", play_server}, {NULL, NULL}};

int main(int argc, char** argv) {
  static const struct CMUnitTest tests[] = {
      TEST(id1_both_ends_of_one_process),
      TEST(id1_a_client_of_another_process),
      TEST(id1_a_server_of_another_process),
      TEST(id1_each_client_of_an_instance),
      TEST(id5_the_name_of_the_user),
      TEST(id5_a_client_of_another_user),
      TEST(a_server_looks_before_it_accepts),
      TEST(a_server_may_reject_everybody),
      TEST(the_server_has_to_be_of_this_user),
      TEST(the_options_are_copied),
      TEST(what_is_no_user_is_refused),
      TEST(unix_mode_is_that_of_the_socket),
      TEST(unix_mode_beyond_0777_is_refused),
      TEST(windows_sddl_is_the_access_list),
  };
  /* A directory of our own that another user can reach; a child inherits it. */
  if (argc <= 2 && os_make_shared_dir(shared_dir))
    uv_os_setenv("NPIPE_DIR", shared_dir);
  int rc = harness_main(argc, argv, "peer", tests, HARNESS_COUNT(tests), roles);
  if (shared_dir[0]) os_remove_dir(shared_dir);
  return rc;
}
