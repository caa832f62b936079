/* Each header alone, twice. */
#include <tern/session.hpp>

#include <tern.hpp>
#include <tern.hpp>

static_assert(!std::is_copy_constructible_v<tern::model> && std::is_nothrow_move_constructible_v<tern::model>);
static_assert(!std::is_copy_constructible_v<tern::session> && std::is_nothrow_move_constructible_v<tern::session>);
static_assert(!std::is_copy_constructible_v<tern::context> && std::is_nothrow_move_assignable_v<tern::context>);
static_assert(!std::is_copy_constructible_v<tern::sampler> && std::is_nothrow_move_constructible_v<tern::sampler>);
static_assert(!std::is_copy_constructible_v<tern::grammar> && std::is_nothrow_move_constructible_v<tern::grammar>);
static_assert(!std::is_copy_constructible_v<tern::cancel> && !std::is_copy_constructible_v<tern::threadpool>);
static_assert(sizeof(tern::model) == sizeof(void *), "a handle and nothing else");
