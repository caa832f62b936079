/* What the C tests share: checks that say where, and small helpers. C11 and C++17. */
#ifndef CHECK_H
#define CHECK_H

#include "tern.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef _WIN32
#  include <io.h>
#endif

/* A model from an open file: where there are no descriptors in the interface, from the handle behind one. */
#ifdef _WIN32
#  define LOAD_FROM_FD(fd, ...) tern_model_load_from_handle((void *)_get_osfhandle(fd), __VA_ARGS__)
#else
#  define LOAD_FROM_FD(fd, ...) tern_model_load_from_fd(fd, __VA_ARGS__)
#endif

#define CHECK(what) \
  do { if (!(what)) { fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #what); exit(1); } } while (0)
#define IS(status, call) \
  do { \
    const tern_status is_ = (call); \
    if (is_ != (status)) { \
      fprintf(stderr, "%s:%d: %s, wanted %s: %s\n", __FILE__, __LINE__, tern_status_name(is_), \
              tern_status_name(status), #call); \
      exit(1); \
    } \
  } while (0)
#define OK(call) IS(TERN_OK, call)
/* A call with an `error`, whose text is shown if it fails. */
#define OK_E(call) \
  do { \
    tern_error *error = NULL; \
    const tern_status is_ = (call); \
    if (is_ != TERN_OK) { \
      fprintf(stderr, "%s:%d: %s: %s: %s\n", __FILE__, __LINE__, tern_status_name(is_), \
              tern_error_message(error), #call); \
      exit(1); \
    } \
    CHECK(error == NULL); \
  } while (0)

static inline unsigned char *read_all(const char *path, size_t *out_len) {
  FILE *file = fopen(path, "rb");
  unsigned char *bytes;
  long len;
  CHECK(file && fseek(file, 0, SEEK_END) == 0);
  len = ftell(file);
  CHECK(len > 0 && fseek(file, 0, SEEK_SET) == 0);
  bytes = (unsigned char *)malloc((size_t)len);
  CHECK(bytes && fread(bytes, 1, (size_t)len, file) == (size_t)len);
  fclose(file);
  *out_len = (size_t)len;
  return bytes;
}

/* What an answer said: for tern_session_respond, with `hear` as its callback. */
struct said { char text[4096]; size_t len; int chunks; int32_t finish; };
static inline int32_t hear(void *user_data, const tern_chunk *chunk) {
  struct said *said = (struct said *)user_data;
  CHECK(chunk->size == sizeof *chunk && said->len + chunk->len < sizeof said->text);
  memcpy(said->text + said->len, chunk->utf8, chunk->len);
  said->text[said->len += chunk->len] = 0;
  said->chunks++;
  said->finish = chunk->finish_reason;
  return 1;
}

/* Asks a session and hears its whole answer. */
static inline void ask(tern_session *s, const char *text, const tern_generate_options *o, struct said *said) {
  memset(said, 0, sizeof *said);
  OK_E(tern_session_respond(s, text, TERN_NUL_TERMINATED, o, hear, said, &error));
  CHECK(said->finish != TERN_FINISH_NONE);
}

/* Two contexts with the same row of logits, bit for bit. */
static inline void same_rows(tern_context *a, size_t i, tern_context *b, size_t j) {
  const float *x = NULL, *y = NULL;
  size_t n = 0, m = 0;
  OK(tern_logits(a, i, &x, &n));
  OK(tern_logits(b, j, &y, &m));
  CHECK(n == m && n > 0 && memcmp(x, y, n * sizeof *x) == 0);
}

/* Two models that give the same logits, bit for bit. */
static inline void same_model(const tern_model *a, const tern_model *b) {
  tern_context *c = NULL, *d = NULL;
  tern_token tokens[16];
  size_t n = 0;
  OK(tern_tokenize(a, "The same", TERN_NUL_TERMINATED, TERN_TOK_ADD_SPECIAL, tokens, 16, &n));
  OK(tern_context_new(a, NULL, &c, NULL));
  OK(tern_context_new(b, NULL, &d, NULL));
  OK(tern_eval(c, tokens, n, NULL, NULL));
  OK(tern_eval(d, tokens, n, NULL, NULL));
  same_rows(c, 0, d, 0);
  tern_context_free(c);
  tern_context_free(d);
}

#endif
