// SPDX-License-Identifier: Apache-2.0
// A VNC server for `make bench-console`: RFB 3.8 without a password, then what the viewer's first key asks for.
// All of it is RFB, so that a filter can follow it.
//
//   F  send updates without pause      U  send 4,096 bytes five times a second, with the time that each was due
//   E  answer a key with empty updates of as many bytes            I  send nothing
//
// usage: console_source DESCRIPTOR        a listening socket that is inherited; ends when standard input ends

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

// an update of uncompressed rectangles of 64x64 pixels, 1 MiB; one of a rectangle of 60x17 with its due time in front
enum { RECTANGLES = 64, SIDE = 64, RECTANGLE = 12 + SIDE * SIDE * 4, BLOCK = 4 + RECTANGLES * RECTANGLE };
enum { UPDATE = 4096, WIDTH = 60, HEIGHT = 17, DUE_AT = 16, KEY = 8, PERIOD_NS = 200000000, EVENTS = 256 };

struct viewer {
  int fd, wanted, step, offset;
  char behaviour;
  int64_t due_ns;
  struct viewer *next;  // in the order of due_ns
};

static char block[BLOCK];
static struct viewer *first_due, *last_due;
static int poll_fd;

// 640x480, 32 bits for a pixel, and the name "test"
static const unsigned char server_init[28] = {0x02, 0x80, 0x01, 0xe0, 32, 24, 0,   1,        0,   255, 0,   255, 0,
                                              255,  16,   8,    0,    0,  0,  0,   [23] = 4, 't', 'e', 's', 't'};
static const struct {
  int wanted, size;
  const void *answer;
} steps[] = {{12, 2, "\1\1"}, {1, 4, "\0\0\0\0"}, {1, sizeof server_init, server_init}};
enum { STEPS = sizeof steps / sizeof *steps };

static char *put(char *at, int x, int y, int width, int height) {
  const unsigned char head[12] = {x >> 8, x, y >> 8, y, width >> 8, width, height >> 8, height};
  return (char *)memcpy(at, head, sizeof head) + sizeof head;
}

static void draw(void) {
  char *at = block;
  for (int byte = 0; byte < BLOCK; byte++) block[byte] = rand();
  memcpy(at, "\0\0\0", 3);
  at[3] = RECTANGLES;
  at += 4;
  for (int index = 0; index < RECTANGLES; index++)
    at = put(at, index % 8 * SIDE, index / 8 % 7 * SIDE, SIDE, SIDE) + SIDE * SIDE * 4;
}

static int64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void watch(struct viewer *viewer, int operation, uint32_t events) {
  struct epoll_event event = {.events = events, .data.ptr = viewer};
  epoll_ctl(poll_fd, operation, viewer->fd, &event);
}

static void leave(struct viewer *viewer) {
  close(viewer->fd);
  viewer->fd = -1;
  // one that is due stays in the queue until its turn
  if (viewer->behaviour != 'U') free(viewer);
}

static void enqueue(struct viewer *viewer) {
  viewer->next = NULL;
  if (last_due) last_due->next = viewer; else first_due = viewer;
  last_due = viewer;
}

static void admit(int listening) {
  int fd = accept4(listening, NULL, NULL, SOCK_NONBLOCK), one = 1;
  if (fd < 0) return;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  struct viewer *viewer = calloc(1, sizeof *viewer);
  viewer->fd = fd;
  viewer->wanted = steps[0].wanted;
  watch(viewer, EPOLL_CTL_ADD, EPOLLIN);
  if (send(fd, "RFB 003.008\n", 12, MSG_NOSIGNAL) != 12) leave(viewer);
}

static void shake_hands(struct viewer *viewer) {
  char bytes[16];
  ssize_t got = recv(viewer->fd, bytes, viewer->wanted, 0);
  if (got < 0 && errno == EAGAIN) return;
  if (got <= 0) { leave(viewer); return; }
  if ((viewer->wanted -= got)) return;
  if (viewer->step == STEPS) {
    viewer->behaviour = bytes[got - 1];
    if (viewer->behaviour == 'F') watch(viewer, EPOLL_CTL_MOD, EPOLLOUT);
    if (viewer->behaviour == 'U') {
      viewer->due_ns = now_ns() + PERIOD_NS;
      enqueue(viewer);
    }
    return;
  }
  if (send(viewer->fd, steps[viewer->step].answer, steps[viewer->step].size, MSG_NOSIGNAL) < 0) {
    leave(viewer);
    return;
  }
  viewer->wanted = ++viewer->step < STEPS ? steps[viewer->step].wanted : KEY;
}

static void serve(struct viewer *viewer, uint32_t events) {
  char bytes[4096];
  if (!viewer->behaviour) { shake_hands(viewer); return; }
  if (viewer->behaviour == 'F') {
    if (events & (EPOLLERR | EPOLLHUP)) leave(viewer);
    else {
      ssize_t sent = send(viewer->fd, block + viewer->offset, BLOCK - viewer->offset, MSG_NOSIGNAL);
      if (sent > 0) viewer->offset = (viewer->offset + sent) % BLOCK;
      else if (errno != EAGAIN) leave(viewer);
    }
    return;
  }
  ssize_t got = recv(viewer->fd, bytes, sizeof bytes, 0);
  if (got < 0 && errno == EAGAIN) return;
  if (got <= 0) { leave(viewer); return; }
  memset(bytes, 0, got);  // an empty update has four bytes, all zero
  if (viewer->behaviour == 'E' && send(viewer->fd, bytes, got, MSG_NOSIGNAL) != got) leave(viewer);
}

// Send what is due; return how long nothing more is, in milliseconds.
static int send_updates(void) {
  char update[UPDATE];
  memcpy(update, block, UPDATE);
  update[3] = 1;
  put(update + 4, 0, 0, WIDTH, HEIGHT);
  for (int64_t now = now_ns(); first_due; now = now_ns()) {
    struct viewer *viewer = first_due;
    if (viewer->fd >= 0 && viewer->due_ns > now) return (viewer->due_ns - now) / 1000000 + 1;
    first_due = viewer->next;
    if (!first_due) last_due = NULL;
    if (viewer->fd < 0) { free(viewer); continue; }
    memcpy(update + DUE_AT, &viewer->due_ns, sizeof viewer->due_ns);
    ssize_t sent = send(viewer->fd, update, UPDATE, MSG_NOSIGNAL);
    viewer->due_ns += PERIOD_NS;
    enqueue(viewer);
    // an update that has to wait is left out; a part of one would make the rest unreadable
    if (sent != UPDATE && !(sent < 0 && errno == EAGAIN)) leave(viewer);
  }
  return -1;
}

int main(int count, char **arguments) {
  if (count != 2) return fprintf(stderr, "usage: console_source DESCRIPTOR\n"), 2;
  int listening = atoi(arguments[1]);
  struct viewer acceptor = {.fd = listening}, input = {.fd = 0};
  fcntl(listening, F_SETFL, O_NONBLOCK);
  draw();
  poll_fd = epoll_create1(0);
  watch(&acceptor, EPOLL_CTL_ADD, EPOLLIN);
  watch(&input, EPOLL_CTL_ADD, EPOLLIN);
  for (;;) {
    struct epoll_event events[EVENTS];
    int ready = epoll_wait(poll_fd, events, EVENTS, send_updates());
    for (int at = 0; at < ready; at++) {
      struct viewer *viewer = events[at].data.ptr;
      if (viewer == &input) return 0;
      if (viewer == &acceptor) admit(listening);
      else if (viewer->fd >= 0) serve(viewer, events[at].events);
    }
  }
}
