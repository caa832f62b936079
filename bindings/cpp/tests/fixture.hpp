/* What the tests share: the model, its golden answers, and what a call threw. */
#pragma once

#include <tern.hpp>

#include "check.hpp"

#include <stdexcept>

inline std::string model_path, golden_dir;
inline long leak_rounds = 1000;

struct host_error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

inline tern::model load() { return tern::model::from_file(model_path); }

// The repository's golden texts: what is said on the model of the tests, on every machine, in every language.
inline std::string golden(const char *name) {
  const auto bytes = check::read_file(golden_dir + "/" + name);
  return std::string(bytes.begin(), bytes.end());
}
constexpr std::string_view hello = "Hi! How are you?";
constexpr std::string_view pizza = "What is your favorite food?";
constexpr std::string_view story = "Tell me a story about a dog.";

inline tern::generate_options greedy(const tern::sampler &s, std::uint32_t max_tokens = 64) {
  tern::generate_options o;
  o.sampler = &s;
  o.max_tokens = max_tokens;
  return o;
}

// The code and the text of what `f` throws; ok if nothing.
struct caught {
  tern::status code = tern::status::ok;
  std::string text;
};
template <class F>
caught failure_of(F f) {
  try {
    f();
  } catch (const tern::error &e) {
    return {e.code(), e.what()};
  }
  return {};
}

void version_and_statuses();
void load_errors_have_their_golden_texts();
void load_errors_say_what_and_where();
void loads_from_everywhere();
void progress_is_told_and_can_stop();
void tokens_make_the_round_trip();
void cancelling_a_prefill_leaves_whole_tokens();
void contexts_score_choose_embed_and_come_back();
void emoji_split_over_tokens_come_out_whole();
void greedy_text_is_the_golden_text();
void an_answer_can_be_left_early();
void exceptions_of_callbacks_come_out_of_the_call();
void sessions_fork_and_are_saved();
void a_schema_is_obeyed();
void two_sessions_on_two_threads();
void misuse_is_an_error_and_no_more();
void memory_stays_flat();
