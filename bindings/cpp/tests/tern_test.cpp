/* The conformance list, in C++ with exceptions: tern_test MODEL GOLDEN-FOLDER [rounds of the leak test] */
#include "fixture.hpp"

int main(int argc, char **argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: tern_test MODEL GOLDEN-FOLDER [rounds of the leak test]\n");
    return 2;
  }
  model_path = argv[1];
  golden_dir = argv[2];
  if (argc > 3) leak_rounds = std::atol(argv[3]);
  const struct {
    const char *name;
    void (*run)();
  } tests[] = {
#define TEST(f) {#f, f}
      TEST(version_and_statuses),
      TEST(load_errors_have_their_golden_texts),
      TEST(load_errors_say_what_and_where),
      TEST(loads_from_everywhere),
      TEST(progress_is_told_and_can_stop),
      TEST(tokens_make_the_round_trip),
      TEST(cancelling_a_prefill_leaves_whole_tokens),
      TEST(contexts_score_choose_embed_and_come_back),
      TEST(emoji_split_over_tokens_come_out_whole),
      TEST(greedy_text_is_the_golden_text),
      TEST(an_answer_can_be_left_early),
      TEST(exceptions_of_callbacks_come_out_of_the_call),
      TEST(sessions_fork_and_are_saved),
      TEST(a_schema_is_obeyed),
      TEST(two_sessions_on_two_threads),
      TEST(misuse_is_an_error_and_no_more),
      TEST(memory_stays_flat),
#undef TEST
  };
  for (const auto &test : tests) {
    const int before = check::failures;
    try {
      test.run();
    } catch (const std::exception &e) {
      ++check::failures;
      std::fprintf(stderr, "%s: threw: %s\n", test.name, e.what());
    }
    std::printf("%s %s\n", check::failures == before ? "ok  " : "FAIL", test.name);
  }
  return check::failures == 0 ? 0 : 1;
}
