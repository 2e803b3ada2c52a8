/*
 * Frames with descriptors between two servers: see wire.h.
 *
 * Each frame is sent by one call, with its descriptors; the kernel hands these
 * out with the first byte of that call and never mixes two calls' into one
 * receive. A frame is read by itself for this reason. Whatever comes that
 * nobody asked for is closed, not kept: frames are from our own user, but
 * "from" is not "by this program".
 *
 * Owner: the team (team.c, member.c). The memory goes with the poll handle.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "wire.h"

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0
#endif

#ifdef MSG_CMSG_CLOEXEC
#define WIRE_RECEIVE_FLAGS MSG_CMSG_CLOEXEC
#else
#define WIRE_RECEIVE_FLAGS 0
#endif

/* Room for the descriptors in a message of sendmsg(), aligned as it wants. */
typedef union wire_control {
  struct cmsghdr align;
  char bytes[CMSG_SPACE(NPI_WIRE_FDS_MAX * sizeof(int))];
} wire_control;

static void wire_on_poll(uv_poll_t* poll, int status, int events) {
  npi_wire* wire = poll->data;
  (void) status; /* shows when reading */
  (void) events;
  if (wire->fd >= 0) wire->on_ready(wire);
}

int npi_wire_new(npi_unix_server* server, int fd,
                 void (*on_ready)(npi_wire* wire), void* owner,
                 npi_wire** out) {
  npi_wire* wire = npi_calloc(1, sizeof *wire);
  if (wire == NULL) return UV_ENOMEM;
  int err = uv_poll_init(server->base.loop, &wire->poll, fd);
  if (err != 0) {
    npi_free(wire);
    return err;
  }
  wire->server = server;
  wire->owner = owner;
  wire->on_ready = on_ready;
  wire->fd = fd;
  wire->poll.data = wire;
  server->handles++;
  uv_poll_start(&wire->poll, UV_READABLE, wire_on_poll); /* cannot fail */
  *out = wire;
  return 0;
}

int npi_wire_send(npi_wire* wire, const npi_team_frame* frame, const int fds[],
                  unsigned count) {
  uint8_t bytes[NPI_TEAM_BYTES];
  wire_control control;
  struct iovec iov = {.iov_base = bytes, .iov_len = sizeof bytes};
  struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
  size_t size = count * sizeof *fds;
  npi_encode_team(bytes, frame);
  if (count > 0) {
    memset(&control, 0, sizeof control);
    message.msg_control = control.bytes;
    message.msg_controllen = CMSG_SPACE(size);
    struct cmsghdr* head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(size);
    memcpy(CMSG_DATA(head), fds, size);
  }
  ssize_t sent;
  do {
    sent = sendmsg(wire->fd, &message, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  if (sent == (ssize_t) sizeof bytes) return 0;
  /* The kernel takes so few bytes whole or not at all. */
  if (sent >= 0) return UV_EPIPE;
  return errno == EWOULDBLOCK || errno == ENOBUFS ? UV_EAGAIN : -errno;
}

/* ---- receiving */

static void wire_keep_fd(npi_wire* wire, int fd) {
  if (wire->fd_count == NPI_WIRE_FDS_MAX) {
    close(fd);
    return;
  }
  fcntl(fd, F_SETFD, FD_CLOEXEC);
  wire->fds[wire->fd_count++] = fd;
}

static void wire_keep_fds(npi_wire* wire, struct msghdr* message) {
  for (struct cmsghdr* head = CMSG_FIRSTHDR(message); head != NULL;
       head = CMSG_NXTHDR(message, head)) {
    if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS)
      continue;
    size_t count = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; i++) {
      int fd;
      memcpy(&fd, CMSG_DATA(head) + i * sizeof fd, sizeof fd);
      wire_keep_fd(wire, fd);
    }
  }
}

static void wire_drop_fds(npi_wire* wire) {
  for (unsigned i = 0; i < wire->fd_count; i++) npi_sock_close(wire->fds[i]);
  wire->fd_count = 0;
}

static int wire_read(npi_wire* wire) {
  wire_control control;
  struct iovec iov = {.iov_base = wire->bytes + wire->have,
                      .iov_len = sizeof wire->bytes - wire->have};
  struct msghdr message = {.msg_iov = &iov,
                           .msg_iovlen = 1,
                           .msg_control = control.bytes,
                           .msg_controllen = sizeof control.bytes};
  ssize_t got;
  do {
    got = recvmsg(wire->fd, &message, WIRE_RECEIVE_FLAGS);
  } while (got < 0 && errno == EINTR);
  if (got < 0) return errno == EWOULDBLOCK ? UV_EAGAIN : -errno;
  wire_keep_fds(wire, &message);
  if (got == 0) return UV_EOF;
  wire->have += (size_t) got;
  return (message.msg_flags & MSG_CTRUNC) != 0 ? UV_EPROTO : 0;
}

int npi_wire_receive(npi_wire* wire, npi_team_frame* frame) {
  if (wire->fd < 0) return UV_EOF;
  if (wire->have == 0) wire_drop_fds(wire);
  while (wire->have < sizeof wire->bytes) {
    int err = wire_read(wire);
    if (err != 0) return err;
  }
  wire->have = 0;
  return npi_decode_team(wire->bytes, frame);
}

int npi_wire_take(npi_wire* wire, unsigned i) {
  if (i >= wire->fd_count) return -1;
  int fd = wire->fds[i];
  wire->fds[i] = -1;
  return fd;
}

/* ---- the end */

static void wire_on_closed(uv_handle_t* handle) {
  npi_wire* wire = handle->data;
  npi_unix_server* server = wire->server;
  npi_free(wire);
  npi_server_handle_closed(server);
}

void npi_wire_close(npi_wire* wire) {
  wire_drop_fds(wire);
  npi_sock_shutdown(wire->fd); /* also if a forked child has it */
  uv_close((uv_handle_t*) &wire->poll, wire_on_closed);
  npi_sock_close(wire->fd);
  wire->fd = -1;
}
