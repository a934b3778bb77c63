// SPDX-License-Identifier: Apache-2.0
// The browsers of `make bench-console`: TLS 1.3 with one cipher, a WebSocket or nothing in it, RFB 3.8.
//
// usage: console_client MODE PORT PATH SESSIONS SECONDS
//
// MODE is what the sessions do: flood, updates, echo, idle, stalled (they never read), or connect (new ones all
// the time, SESSIONS at once). PATH is that of the WebSocket, in which # stands for a number that occurs once; an
// empty PATH means RFB in TLS without a WebSocket. Prints `begin` when all sessions are open, and what it
// measured after SECONDS more, as `end` and JSON; the sessions stay open until standard input ends.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BUFFER = 1 << 17, UPDATE = 4096, DUE_AT = 16, EVENTS = 256, OPENING_AT_ONCE = 16, OF_ADDRESS = 50 };
enum { MAX_SAMPLES = 1 << 22, READS_AT_ONCE = 64, ECHO_BYTES = 8, INIT_BYTES = 24 };
enum state { CONNECTING, HANDSHAKE, UPGRADE, VERSION, SECURITY, RESULT, INIT, RUNNING };

struct session {
  int fd, number;
  enum state state;
  SSL *tls;
  char text[1024];  // the head of the upgrade's answer, or bytes of the RFB handshake
  unsigned text_size;
  unsigned char header[10];  // of the frame that is read
  unsigned header_size;
  uint64_t payload_left, bytes;
  unsigned update_size;
  int64_t stamp_ns;
};

static const char *mode, *path;
static char behaviour;
static int port, poll_fd, running, opening, is_counting;
static unsigned long attempts, opened, samples_count, other_frames;
static int64_t *samples;
static SSL_CTX *context;
static char buffer[BUFFER];

static int64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void fail(const char *what, struct session *session) {
  fprintf(stderr, "error: session %d: %s in state %d: %s\n", session->number, what, session->state,
          strerror(errno));
  exit(1);
}

static void sample(int64_t value_ns) {
  if (is_counting && samples_count < MAX_SAMPLES) samples[samples_count++] = value_ns;
}

static void watch(struct session *session, int operation, uint32_t events) {
  struct epoll_event event = {.events = events, .data.ptr = session};
  epoll_ctl(poll_fd, operation, session->fd, &event);
}

static void send_bytes(struct session *session, const void *bytes, int size) {
  if (SSL_write(session->tls, bytes, size) != size) fail("cannot send", session);
}

// Send a binary frame with a mask, or the bytes alone; at most 16 bytes.
static void send_rfb(struct session *session, const void *bytes, int size) {
  static const unsigned char mask[4] = {0x5a, 0xc3, 0x96, 0x3c};
  unsigned char frame[6 + 16] = {0x82, 0x80 | size, mask[0], mask[1], mask[2], mask[3]};
  for (int at = 0; at < size; at++) frame[6 + at] = ((const unsigned char *)bytes)[at] ^ mask[at % 4];
  if (*path) send_bytes(session, frame, 6 + size);
  else send_bytes(session, bytes, size);
}

static void send_key(struct session *session) {
  session->stamp_ns = now_ns();
  send_rfb(session, "\4\1\0\0\0\0\0a", ECHO_BYTES);
}

static void dial(struct session *session) {
  struct sockaddr_in own = {.sin_family = AF_INET}, peer = {.sin_family = AF_INET};
  int one = 1, small = 8192;
  *session = (struct session){.number = session->number};
  session->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  // a proxy limits the connections of one address; behind QEMU's network, the address that the request names
  own.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + session->number / OF_ADDRESS);
  peer.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  peer.sin_port = htons(port);
  setsockopt(session->fd, SOL_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
  setsockopt(session->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  if (!strcmp(mode, "stalled")) setsockopt(session->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
  if (bind(session->fd, (void *)&own, sizeof own)) fail("cannot bind", session);
  if (connect(session->fd, (void *)&peer, sizeof peer) && errno != EINPROGRESS) fail("cannot connect", session);
  session->tls = SSL_new(context);
  SSL_set_fd(session->tls, session->fd);
  SSL_set_connect_state(session->tls);
  watch(session, EPOLL_CTL_ADD, EPOLLOUT);
  opening++;
}

static void hang_up(struct session *session) {
  SSL_shutdown(session->tls);
  SSL_free(session->tls);
  close(session->fd);
}

static void request_upgrade(struct session *session) {
  char request[1024], *at = request;
  at += sprintf(at, "GET ");
  for (const char *from = path; *from; from++) {
    if (*from == '#') at += sprintf(at, "%lu", ++attempts);
    else *at++ = *from;
  }
  at += sprintf(at,
                " HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
                "Sec-WebSocket-Protocol: binary\r\nX-Forwarded-For: 198.51.100.%d\r\n\r\n",
                port, 1 + session->number / OF_ADDRESS);
  send_bytes(session, request, at - request);
}

static void run(struct session *session) {
  opening--;
  opened++;
  if (!strcmp(mode, "connect")) {
    hang_up(session);
    dial(session);
    return;
  }
  session->state = RUNNING;
  session->text_size = 0;
  running++;
  const char key[ECHO_BYTES] = {4, 1, [ECHO_BYTES - 1] = behaviour};
  send_rfb(session, key, ECHO_BYTES);
  if (behaviour == 'E') send_key(session);
  if (!strcmp(mode, "stalled")) watch(session, EPOLL_CTL_DEL, 0);
}

static int shake_hands(struct session *session, const char *bytes, unsigned size) {
  static const unsigned wanted[] = {[VERSION] = 12, [SECURITY] = 2, [RESULT] = 4, [INIT] = INIT_BYTES};
  if (session->text_size + size > sizeof session->text) fail("handshake is too long", session);
  memcpy(session->text + session->text_size, bytes, size);
  session->text_size += size;
  while (session->state < RUNNING) {
    const unsigned char *text = (void *)session->text;
    unsigned need = wanted[session->state];
    if (session->text_size < need) return 1;
    if (session->state == INIT && session->text_size < (need += text[22] << 8 | text[23])) return 1;
    memmove(session->text, session->text + need, session->text_size -= need);
    switch (session->state++) {
      case VERSION: send_rfb(session, "RFB 003.008\n", 12); break;
      case SECURITY: case RESULT: send_rfb(session, "\1", 1); break;
      default: run(session); return session->state == RUNNING;
    }
  }
  return 1;
}

static void count_update(struct session *session, const char *bytes, unsigned size) {
  while (size) {
    unsigned part = UPDATE - session->update_size;
    if (part > size) part = size;
    if (session->update_size + part <= sizeof session->text)
      memcpy(session->text + session->update_size, bytes, part);
    else if (session->update_size < sizeof session->text)
      memcpy(session->text + session->update_size, bytes, sizeof session->text - session->update_size);
    bytes += part;
    size -= part;
    if ((session->update_size += part) == UPDATE) {
      int64_t due_ns;
      memcpy(&due_ns, session->text + DUE_AT, sizeof due_ns);
      sample(now_ns() - due_ns);
      session->update_size = 0;
    }
  }
}

// Return 0 when the session was replaced by a new one.
static int payload(struct session *session, const char *bytes, unsigned size) {
  if (session->state < RUNNING) return shake_hands(session, bytes, size);
  session->bytes += size;
  if (behaviour == 'U') count_update(session, bytes, size);
  if (behaviour == 'E' && (session->update_size += size) == ECHO_BYTES) {
    session->update_size = 0;
    sample(now_ns() - session->stamp_ns);
    send_key(session);
  }
  return 1;
}

static int frames(struct session *session, const char *bytes, unsigned size) {
  while (size) {
    if (session->payload_left) {
      unsigned part = session->payload_left < size ? session->payload_left : size;
      int is_data = (session->header[0] & 0x0f) <= 2;
      session->payload_left -= part;
      if ((session->header[0] & 0x0f) == 8) {
        fprintf(stderr, "close frame: %.*s\n", part < 2 ? 0 : (int)part - 2, bytes + 2);
        fail("the proxy closes the session", session);
      }
      if (is_data && !payload(session, bytes, part)) return 0;
      if (!is_data) other_frames++;
      bytes += part;
      size -= part;
      continue;
    }
    session->header[session->header_size++] = *bytes++;
    size--;
    if (session->header_size < 2) continue;
    unsigned length = session->header[1], extended = length == 126 ? 2 : length == 127 ? 8 : 0;
    if (session->header_size < 2 + extended) continue;
    session->payload_left = extended ? 0 : length;
    for (unsigned at = 0; at < extended; at++)
      session->payload_left = session->payload_left << 8 | session->header[2 + at];
    session->header_size = 0;
    // an empty ping of the proxy
    if ((session->header[0] & 0x0f) == 9) send_bytes(session, "\x8a\x80\0\0\0\0", 6);
  }
  return 1;
}

static int upgraded(struct session *session, const char *bytes, unsigned size) {
  if (session->text_size + size >= sizeof session->text) fail("answer is too long", session);
  memcpy(session->text + session->text_size, bytes, size);
  session->text[session->text_size += size] = 0;
  char *end = strstr(session->text, "\r\n\r\n");
  if (!end) return 1;
  if (strncmp(session->text, "HTTP/1.1 101", 12)) fail(session->text, session);
  unsigned rest = session->text + session->text_size - (end + 4);
  char early[1024];
  memcpy(early, end + 4, rest);
  session->text_size = 0;
  session->state = VERSION;
  return frames(session, early, rest);
}

static void receive(struct session *session) {
  for (int reads = 0; reads < READS_AT_ONCE || SSL_has_pending(session->tls); reads++) {
    int size = SSL_read(session->tls, buffer, BUFFER), is_same;
    if (size <= 0) {
      int error = SSL_get_error(session->tls, size);
      if (error == SSL_ERROR_WANT_READ) return;
      fail("the connection ends", session);
    }
    if (session->state == UPGRADE) is_same = upgraded(session, buffer, size);
    else if (*path) is_same = frames(session, buffer, size);
    else is_same = payload(session, buffer, size);
    if (!is_same) return;
  }
}

static void advance(struct session *session) {
  if (session->state == CONNECTING) {
    session->state = HANDSHAKE;
    watch(session, EPOLL_CTL_MOD, EPOLLIN);
  }
  if (session->state == HANDSHAKE) {
    int done = SSL_do_handshake(session->tls);
    if (done <= 0) {
      if (SSL_get_error(session->tls, done) != SSL_ERROR_WANT_READ) fail("the handshake fails", session);
      return;
    }
    session->state = *path ? UPGRADE : VERSION;
    if (*path) request_upgrade(session);
  }
  receive(session);
}

static int ascending(const void *left, const void *right) {
  int64_t difference = *(const int64_t *)left - *(const int64_t *)right;
  return difference < 0 ? -1 : difference > 0;
}

static double percentile_us(double share) {
  return samples_count ? samples[(unsigned long)((samples_count - 1) * share)] / 1000.0 : 0;
}

static void report(struct session *sessions, int count, double seconds) {
  uint64_t bytes = 0, least = UINT64_MAX, most = 0;
  for (int at = 0; at < count; at++) {
    bytes += sessions[at].bytes;
    if (sessions[at].bytes < least) least = sessions[at].bytes;
    if (sessions[at].bytes > most) most = sessions[at].bytes;
  }
  qsort(samples, samples_count, sizeof *samples, ascending);
  printf("end {\"seconds\": %.6f, \"bytes\": %lu, \"least_bytes\": %lu, \"most_bytes\": %lu, \"opened\": %lu, "
         "\"samples\": %lu, \"p50_us\": %.1f, \"p99_us\": %.1f, \"other_frames\": %lu}\n",
         seconds, bytes, least, most, opened, samples_count, percentile_us(0.5), percentile_us(0.99),
         other_frames);
  fflush(stdout);
}

int main(int count, char **arguments) {
  static const char *modes[] = {"flood", "updates", "echo", "idle", "stalled", "connect"};
  if (count != 6) return fprintf(stderr, "usage: console_client MODE PORT PATH SESSIONS SECONDS\n"), 2;
  mode = arguments[1], port = atoi(arguments[2]), path = arguments[3];
  int wanted = atoi(arguments[4]), started = 0, is_connecting = !strcmp(mode, "connect");
  double seconds = atof(arguments[5]);
  for (int at = 0; at < 6; at++)
    if (!strcmp(mode, modes[at])) behaviour = "FUEIFI"[at];
  context = SSL_CTX_new(TLS_client_method());
  SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
  SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256");
  SSL_CTX_set1_groups_list(context, "X25519");
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_read_ahead(context, 1);
  SSL_CTX_set_default_read_buffer_len(context, BUFFER);
  samples = malloc(MAX_SAMPLES * sizeof *samples);
  struct session *sessions = calloc(wanted, sizeof *sessions), input = {.fd = 0};
  poll_fd = epoll_create1(0);
  watch(&input, EPOLL_CTL_ADD, EPOLLIN);
  int64_t begun_ns = 0, end_ns = 0, settled_ns = 0;
  for (;;) {
    while (started < wanted && (is_connecting || opening < OPENING_AT_ONCE)) {
      sessions[started].number = started;
      dial(&sessions[started++]);
    }
    struct epoll_event events[EVENTS];
    int ready = epoll_wait(poll_fd, events, EVENTS, 20);
    for (int at = 0; at < ready; at++) {
      if (events[at].data.ptr == &input) return 0;
      advance(events[at].data.ptr);
    }
    int64_t now = now_ns();
    if (!settled_ns && (is_connecting ? opened > 0 : running == wanted)) settled_ns = now + 500000000;
    if (settled_ns && !begun_ns && now >= settled_ns) {
      for (int at = 0; at < wanted; at++) sessions[at].bytes = 0;
      opened = samples_count = 0;
      is_counting = 1;
      puts("begin");
      fflush(stdout);
      begun_ns = now_ns();
      end_ns = begun_ns + seconds * 1e9;
    }
    if (is_counting && now >= end_ns) {
      is_counting = 0;
      report(sessions, wanted, (now - begun_ns) / 1e9);
      if (is_connecting) return 0;
    }
  }
}
