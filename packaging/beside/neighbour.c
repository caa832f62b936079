/* A C library that carries, under the same names, what a dependency of tern exports in C, and a piece of ggml. */
#include <stddef.h>

struct ggml_context { int alive; };
static struct ggml_context one;

struct ggml_context *ggml_init(int unused) {
  (void)unused;
  one.alive = 1;
  return &one;
}
void ggml_free(struct ggml_context *c) { c->alive = 0; }

/* Names of llguidance's C interface. */
int llg_new_constraint(void) { return 7; }
int llg_free_constraint(void) { return 8; }
int llg_get_error(void) { return 9; }
