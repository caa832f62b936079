/* Loads one model from everywhere, at odd offsets within another file, and stops loads everywhere: loading MODEL FOLDER. */
#include "check.h"
#include <pthread.h>
#include <unistd.h>

#define SKIP 4097 /* bytes of something else, and not on a page */

static const char *path;
static char pak[1024];
static unsigned char *bytes;
static size_t n_bytes;
static tern_model *m;

/* The model in the middle of a file, as in a game's archive. */
static void pack(const char *folder) {
  static unsigned char other[SKIP];
  FILE *file;
  bytes = read_all(path, &n_bytes);
  snprintf(pak, sizeof pak, "%s/loading.pak", folder);
  file = fopen(pak, "wb");
  memset(other, 0xaa, sizeof other);
  CHECK(file && fwrite(other, 1, SKIP, file) == SKIP && fwrite(bytes, 1, n_bytes, file) == n_bytes);
  CHECK(fwrite("what follows", 1, 12, file) == 12 && fclose(file) == 0);
}

static void from_file(void) {
  static const uint32_t flags[4] = {0, TERN_MODEL_NO_MMAP, TERN_MODEL_MLOCK | TERN_MODEL_VERIFY, TERN_MODEL_VOCAB_ONLY};
  tern_model *other = NULL;
  tern_context *c = NULL;
  tern_model_params p;
  tern_token a[16], b[16];
  size_t i, n = 0, k = 0;
  for (i = 0; i < 4; i++) {
    tern_model_params_init(&p, sizeof p);
    p.flags = flags[i];
    OK_E(tern_model_load_from_file(path, &p, &other, &error));
    if (flags[i] & TERN_MODEL_VOCAB_ONLY) {
      OK(tern_tokenize(m, "A vocabulary", TERN_NUL_TERMINATED, 0, a, 16, &n));
      OK(tern_tokenize(other, "A vocabulary", TERN_NUL_TERMINATED, 0, b, 16, &k));
      CHECK(n == k && n > 1 && memcmp(a, b, n * sizeof *a) == 0);
      IS(TERN_ERR_INVALID_STATE, tern_context_new(other, NULL, &c, NULL));
      CHECK(c == NULL);
    } else {
      same_model(m, other);
    }
    tern_model_free(other);
  }
  /* the model is in there, but not at the beginning */
  other = NULL;
  IS(TERN_ERR_BAD_MODEL, tern_model_load_from_file(pak, NULL, &other, NULL));
  CHECK(other == NULL);
}

static void from_fd(void) {
  tern_model *other = NULL;
  tern_model_params p;
  FILE *file = fopen(pak, "rb");
  int fd, whole;
  CHECK(file);
  fd = fileno(file);
  CHECK(lseek(fd, 11, SEEK_SET) == 11);
  tern_model_params_init(&p, sizeof p);
  for (p.flags = 0; p.flags <= TERN_MODEL_NO_MMAP; p.flags += TERN_MODEL_NO_MMAP) {
    OK_E(LOAD_FROM_FD(fd, SKIP, n_bytes, &p, &other, &error));
#ifndef _WIN32 /* which moves it with every read */
    CHECK(lseek(fd, 0, SEEK_CUR) == 11); /* the position is the host's */
#endif
    same_model(m, other);
    tern_model_free(other);
  }
  /* to the end of the file, with something behind the model; and the descriptor may be closed meanwhile */
  OK_E(LOAD_FROM_FD(fd, SKIP, 0, NULL, &other, &error));
  IS(TERN_ERR_BAD_MODEL, LOAD_FROM_FD(fd, SKIP + 1, n_bytes, NULL, &m, NULL));
  IS(TERN_ERR_BAD_MODEL, LOAD_FROM_FD(fd, SKIP, n_bytes / 2, NULL, &m, NULL));
  IS(TERN_ERR_INVALID_ARGUMENT, LOAD_FROM_FD(fd, SKIP, n_bytes + 13, NULL, &m, NULL));
  CHECK(fclose(file) == 0);
  same_model(m, other);
  tern_model_free(other);
  file = fopen(path, "rb");
  CHECK(file);
  whole = fileno(file);
  OK_E(LOAD_FROM_FD(whole, 0, 0, NULL, &other, &error));
  CHECK(fclose(file) == 0);
  same_model(m, other);
  tern_model_free(other);
}

static int releases;
static void on_release(void *user_data) { CHECK(user_data == &releases); releases++; }

static void from_memory(void) {
  unsigned char *room = (unsigned char *)malloc(n_bytes + 64);
  tern_model *other = NULL;
  tern_context *c = NULL, *d = NULL;
  tern_token t[2] = {1, 2};
  size_t odd;
  CHECK(room);
  /* copied: what it was loaded from may go, and be written to */
  memcpy(room + 3, bytes, n_bytes);
  OK_E(tern_model_load_from_memory(room + 3, n_bytes, NULL, NULL, NULL, &other, &error));
  memset(room, 0x55, n_bytes + 64);
  same_model(m, other);
  tern_model_free(other);
  /* borrowed, at every alignment; given back once, after the last that stands on it */
  OK(tern_context_new(m, NULL, &d, NULL));
  OK(tern_eval(d, t, 2, NULL, NULL));
  for (odd = 0; odd < 9; odd += odd < 2 ? 1 : 3) {
    releases = 0;
    memcpy(room + odd, bytes, n_bytes);
    OK_E(tern_model_load_from_memory(room + odd, n_bytes, on_release, &releases, NULL, &other, &error));
    OK(tern_context_new(other, NULL, &c, NULL));
    tern_model_free(other);
    OK(tern_eval(c, t, 2, NULL, NULL));
    same_rows(c, 0, d, 0);
    CHECK(releases == 0);
    tern_context_free(c);
    CHECK(releases == 1);
  }
  free(room);
  tern_context_free(d);
}

/* A reader over the archive; fails from one read on. */
struct archive { FILE *file; int reads, fail_at, closes; };
static int32_t read_at(void *user_data, uint64_t offset, void *dst, size_t n) {
  struct archive *a = (struct archive *)user_data;
  CHECK(a->closes == 0 && offset + n <= n_bytes);
  if (++a->reads == a->fail_at) return 0;
  return fseek(a->file, (long)(SKIP + offset), SEEK_SET) == 0 && fread(dst, 1, n, a->file) == n;
}
static void on_close(void *user_data) {
  struct archive *a = (struct archive *)user_data;
  a->closes++;
  CHECK(fclose(a->file) == 0);
}

static void from_reader(void) {
  tern_model *other = NULL;
  tern_reader r;
  struct archive a;
  int reads;
  tern_reader_init(&r, sizeof r);
  r.user_data = &a;
  r.length = n_bytes;
  r.read_at = read_at;
  r.close = on_close;
  memset(&a, 0, sizeof a);
  CHECK((a.file = fopen(pak, "rb")) != NULL);
  OK_E(tern_model_load_from_reader(&r, NULL, &other, &error));
  CHECK(a.closes == 0);
  same_model(m, other);
  reads = a.reads;
  tern_model_free(other);
  CHECK(a.closes == 1 && reads > 3);
  /* an archive that is damaged further and further in; never more than one close */
  for (a.fail_at = 1; a.fail_at <= reads; a.fail_at += 1 + reads / 12) {
    tern_error *error = NULL;
    other = NULL;
    a.reads = a.closes = 0;
    CHECK((a.file = fopen(pak, "rb")) != NULL);
    IS(TERN_ERR_IO, tern_model_load_from_reader(&r, NULL, &other, &error));
    CHECK(other == NULL && a.closes == 1 && strstr(tern_error_message(error), "read_at returned 0"));
    tern_error_free(error);
  }
}

/* Says stop, or raises the token, at one of the steps it is told. */
struct steps { float last; int told, stop_at; tern_cancel *cancel; };
static int32_t on_progress(void *user_data, float fraction) {
  struct steps *s = (struct steps *)user_data;
  CHECK(fraction >= s->last && fraction <= 1.0f);
  s->last = fraction;
  if (++s->told != s->stop_at) return 1;
  if (!s->cancel) return 0;
  tern_cancel_set(s->cancel);
  return 1;
}

static void stopped(void) {
  tern_model *other = NULL;
  tern_model_params p;
  tern_cancel *cancel = NULL;
  struct steps s;
  int total, by_token;
  OK(tern_cancel_new(&cancel));
  tern_model_params_init(&p, sizeof p);
  p.progress = on_progress;
  p.progress_user_data = &s;
  p.cancel = cancel;
  memset(&s, 0, sizeof s);
  OK_E(tern_model_load_from_file(path, &p, &other, &error));
  CHECK(s.last == 1.0f && s.told > 10);
  total = s.told;
  tern_model_free(other);
  for (by_token = 0; by_token < 2; by_token++) {
    int at;
    /* a token that is raised with the last step comes too late */
    for (at = 1; at < total - by_token; at += 1 + total / 16) {
      other = NULL;
      memset(&s, 0, sizeof s);
      s.stop_at = at;
      s.cancel = by_token ? cancel : NULL;
      tern_cancel_reset(cancel);
      IS(TERN_ERR_CANCELLED, tern_model_load_from_memory(bytes, n_bytes, NULL, NULL, &p, &other, NULL));
      CHECK(other == NULL && s.told == at);
    }
  }
  /* the host gives its token up while it still stands in the params of nobody */
  tern_cancel_free(cancel);
}

static void *loads(void *arg) {
  tern_model *other = NULL;
  (void)arg;
  OK_E(tern_model_load_from_memory(bytes, n_bytes, NULL, NULL, NULL, &other, &error));
  same_model(m, other);
  tern_model_free(other);
  return NULL;
}

int main(int argc, char **argv) {
  pthread_t threads[3];
  int i;
  CHECK(argc == 3);
  path = argv[1];
  pack(argv[2]);
  OK_E(tern_model_load_from_file(path, NULL, &m, &error));
  from_file();
  from_fd();
  from_memory();
  from_reader();
  stopped();
  for (i = 0; i < 3; i++) CHECK(pthread_create(&threads[i], NULL, loads, NULL) == 0);
  for (i = 0; i < 3; i++) CHECK(pthread_join(threads[i], NULL) == 0);
  CHECK(tern_model_retain(m) == m);
  tern_model_free(m);
  same_model(m, m);
  tern_model_free(m);
  free(bytes);
  CHECK(remove(pak) == 0);
  return 0;
}
