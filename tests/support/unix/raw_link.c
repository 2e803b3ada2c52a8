#include "raw_link.h"

raw_link link_to_server(world* w, npipe_type type) {
  raw_link link = {.listener = -1};
  link.host = host_open_type(w, type);
  link.raw = raw_open(w);
  link.end = host_accept(link.host);
  return link;
}

raw_link link_to_client(world* w, npipe_type type) {
  char path[RAW_PATH_BYTES];
  raw_path(w, path);
  raw_link link = {.listener = raw_listen_fd(path, 0)};
  CHECK(link.listener >= 0);
  link.end = end_connect(w, w->name, CONNECT_MS, NULL);
  link.raw = raw_accept_open(w, link.listener, (unsigned) type, RAW_QUOTA);
  RAW_UNTIL(&link.raw, link.end->connects > 0);
  CHECK_STATUS(0, link.end->connect_status);
  return link;
}

raw_link link_open(world* w, npipe_type type, bool server) {
  return server ? link_to_server(w, type) : link_to_client(w, type);
}

void link_close(world* w, raw_link* link) {
  raw_close(&link->raw);
  if (link->listener < 0) return;
  raw_peer listener = raw_of(w, link->listener);
  raw_close(&listener);
  char path[RAW_PATH_BYTES];
  raw_path(w, path);
  uv_fs_t request;
  uv_fs_unlink(NULL, &request, path, NULL);
  uv_fs_req_cleanup(&request);
}
