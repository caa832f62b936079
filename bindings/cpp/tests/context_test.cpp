/* The low level: cancelled prefills, scores, saved sequences. */
#include "fixture.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>

// The job system of a host, which cancels after some loops: in the midst of a prefill, every time at the same place.
struct inline_jobs {
  std::atomic<int> loops{0};
  int cancel_after = -1;
  const tern::cancel *cancel = nullptr;
  void parallel_for(std::uint32_t n, tern::job run) noexcept {
    if (++loops == cancel_after) cancel->set();
    for (std::uint32_t i = n; i-- > 0;) run(i);
  }
};

void cancelling_a_prefill_leaves_whole_tokens() {
  const auto m = load();
  std::string text;
  for (int i = 0; i < 40; ++i) text += "The dog ran to the park and saw a cat. ";
  auto tokens = m.tokenize(text, TERN_TOK_ADD_SPECIAL);
  tokens.resize(std::min<std::size_t>(tokens.size(), 300));

  inline_jobs jobs;
  const auto pool = tern::threadpool::on(jobs, 3);
  tern::context_options co;
  co.threadpool = &pool;
  co.n_batch = 16;
  tern::context whole(m, co);
  CHECK_EQ(whole.eval(tokens), tern::status::ok);
  const int loops = jobs.loops.load();
  CHECK(loops > 0);
  const auto row = whole.logits();
  const std::vector<float> want(row.begin(), row.end());

  tern::cancel stop;
  jobs.cancel = &stop;
  jobs.loops = 0;
  jobs.cancel_after = loops / 2;
  tern::context cut(m, co);
  tern::eval_options eo;
  eo.cancel = &stop;
  std::size_t done = 0;
  CHECK_EQ(failure_of([&] { (void)cut.eval(tokens, eo, &done); }).code, tern::status::cancelled);
  CHECK(done > 0 && done < tokens.size());
  CHECK_EQ(cut.length(), static_cast<std::uint32_t>(done));
  stop.reset();
  jobs.cancel_after = -1;
  CHECK_EQ(cut.eval(tern::slice<const tern::token>(tokens.data() + done, tokens.size() - done)), tern::status::ok);
  const auto got = cut.logits();
  CHECK(got.size() == want.size() && std::memcmp(got.data(), want.data(), want.size() * sizeof(float)) == 0);

  // A session that is cancelled says so, and goes on afterwards.
  tern::session chat(m);
  const tern::sampler best(0);
  auto o = greedy(best);
  o.cancel = &stop;
  stop.set();
  CHECK_EQ(failure_of([&] { (void)chat.respond(story, o); }).code, tern::status::cancelled);
  stop.reset();
  CHECK_EQ(chat.respond(hello, o).empty(), false);
}

void contexts_score_choose_embed_and_come_back() {
  const auto m = load();
  tern::context_options co;
  co.n_seq_max = 3;
  co.flags = TERN_CTX_EMBEDDINGS;
  tern::context c(m, co);
  const auto tokens = m.tokenize("Once upon a time, there was a little", TERN_TOK_ADD_SPECIAL);
  CHECK_EQ(c.eval(tokens), tern::status::ok);
  const auto row = c.logits();
  const std::vector<float> want(row.begin(), row.end());
  const auto same_logits = [&](tern::seq s) {
    // Logits belong to evaluated tokens: drop the last and compute it again.
    c.truncate(s, static_cast<std::uint32_t>(tokens.size() - 1));
    tern::eval_options o;
    o.seq = s;
    CHECK_EQ(c.eval(tern::slice<const tern::token>(&tokens.back(), 1), o), tern::status::ok);
    const auto got = c.logits();
    CHECK(got.size() == want.size() && std::memcmp(got.data(), want.data(), want.size() * sizeof(float)) == 0);
  };
  tern::token best[4];
  float logprob[4];
  CHECK_EQ(c.logprobs_top(0, {best, 4}, {logprob, 4}), 4U);
  CHECK(logprob[0] >= logprob[1] && logprob[1] >= logprob[2] && logprob[0] < 0);
  tern::sampler s(0);
  CHECK_EQ(s.sample(c), best[0]);
  CHECK_EQ(s.sample(tern::slice<const float>(want)), best[0]);

  const auto saved = c.save(0);
  c.fork(0, 1);
  same_logits(1);
  c.load(2, saved);
  same_logits(2);
  CHECK_EQ(c.common_prefix(0, tokens), tokens.size());
  auto torn = saved;
  torn.resize(torn.size() / 2);
  CHECK_EQ(failure_of([&] { c.load(2, torn); }).code, tern::status::state_mismatch);
  same_logits(2);

  const auto e = c.embedding(0);
  float norm = 0;
  for (float v : e) norm += v * v;
  CHECK(norm > 0.999F && norm < 1.001F);

  const auto scores = c.score(m.tokenize(" girl named Lily."));
  float sum = 0;
  for (float v : scores) {
    CHECK(v <= 0);
    sum += v;
  }
  CHECK(sum > -40);
  const auto pick = c.choose({" girl", " zzzq", " tax form"});
  CHECK_EQ(pick.index, 0U);
  CHECK_EQ(pick.probabilities.size(), 3U);
  const float total = pick.probabilities[0] + pick.probabilities[1] + pick.probabilities[2];
  CHECK(total > 0.999F && total < 1.001F);
  CHECK(c.trim(TERN_TRIM_SCRATCH) > 0);
  CHECK(c.perf().n_prefill > 0);
  CHECK(tern::memory_plan(model_path.c_str(), co).kv > 0);

  tern_batch_item items[2] = {{tokens[0], 1, 1}, {tokens[0], 2, 1}};
  CHECK_EQ(c.eval_batch(tern::slice<const tern::batch_item>(items, 2)), tern::status::ok);
  CHECK_EQ(c.length(1), static_cast<std::uint32_t>(tokens.size() + 1));
}
