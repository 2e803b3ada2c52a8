/*
 * Socket calls. See sock.h.
 *
 * The differences between the Unixes are here and in peer.c and nowhere else:
 * where a socket cannot be made non-blocking and close-on-exec in one call,
 * two more calls follow; where a send cannot be told to raise no signal, the
 * socket is.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <uv.h>

#include "sock.h"

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0
#endif

#if defined(SOCK_NONBLOCK) && defined(SOCK_CLOEXEC)
int npi_sock_open(void) {
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  return fd >= 0 ? fd : -errno;
}

int npi_sock_accept(int fd) {
  int client;
  do {
    client = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
  } while (client < 0 && (errno == EINTR || errno == ECONNABORTED));
  return client >= 0 ? client : -errno;
}
#else
static int sock_prepare(int fd) {
  int flags = fcntl(fd, F_GETFL);
  if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
      fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) {
    int err = -errno;
    close(fd);
    return err;
  }
#ifdef SO_NOSIGPIPE
  int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof on);
#endif
  return fd;
}

int npi_sock_open(void) {
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  return fd >= 0 ? sock_prepare(fd) : -errno;
}

int npi_sock_accept(int fd) {
  int client;
  do {
    client = accept(fd, NULL, NULL);
  } while (client < 0 && (errno == EINTR || errno == ECONNABORTED));
  return client >= 0 ? sock_prepare(client) : -errno;
}
#endif

void npi_sock_close(int fd) {
  if (fd >= 0) close(fd);
}

static int sock_address(struct sockaddr_un* address, const char* path) {
  size_t length = strlen(path);
  if (length > NPI_SOCK_PATH_MAX) return UV_ENAMETOOLONG;
  memset(address, 0, sizeof *address);
  address->sun_family = AF_UNIX;
  memcpy(address->sun_path, path, length);
  return 0;
}

int npi_sock_bind(int fd, const char* path) {
  struct sockaddr_un address;
  int err = sock_address(&address, path);
  if (err != 0) return err;
  return bind(fd, (struct sockaddr*) &address, sizeof address) < 0 ? -errno : 0;
}

int npi_sock_listen(int fd) {
  return listen(fd, SOMAXCONN) < 0 ? -errno : 0;
}

int npi_sock_connect(int fd, const char* path) {
  struct sockaddr_un address;
  int err = sock_address(&address, path);
  if (err != 0) return err;
  do {
    err = connect(fd, (struct sockaddr*) &address, sizeof address);
  } while (err < 0 && errno == EINTR);
  return err < 0 ? -errno : 0;
}

ssize_t npi_sock_receive(int fd, void* data, size_t size) {
  ssize_t got;
  do {
    got = recv(fd, data, size, 0);
  } while (got < 0 && errno == EINTR);
  if (got >= 0) return got;
  return errno == EWOULDBLOCK ? UV_EAGAIN : -errno;
}

ssize_t npi_sock_send(int fd, struct iovec* iov, size_t count) {
  /* msg_iovlen is an int here and a size_t there; 16 bits fit both. */
  struct msghdr message = {.msg_iov = iov, .msg_iovlen = (uint16_t) count};
  ssize_t sent;
  do {
    sent = sendmsg(fd, &message, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  if (sent >= 0) return sent;
  if (errno == EWOULDBLOCK || errno == ENOBUFS) return UV_EAGAIN;
  return errno == ECONNRESET ? UV_EPIPE : -errno;
}

void npi_sock_shutdown(int fd) {
  if (fd >= 0) shutdown(fd, SHUT_RDWR);
}

int npi_sock_dup(int fd) {
  int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  return copy >= 0 ? copy : -errno;
}
