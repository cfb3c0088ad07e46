#include <algorithm>

#include "server/accounts/accounts.h"

namespace pretrained::server {
namespace {

bool equal_but_case(std::string_view a, std::string_view b) {
  auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? char(c + 32) : c; };
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [&](char x, char y) { return lower(x) == lower(y); });
}

Role role_in_org(const Caller& caller, int64_t account) {
  auto found = caller.orgs.find(account);
  return found == caller.orgs.end() ? Role::none : found->second;
}

// By being who they are, and in spite of visibility and gates.
Role own_role(const Caller& caller, int64_t owner) {
  if (!caller.user || caller.user->disabled) return Role::none;
  if (caller.user->is_admin || caller.user->id == owner) return Role::admin;
  return role_in_org(caller, owner);
}

// What anybody may do, with an account or without.
Role public_role(const Caller& caller, const RepoAccess& repo) {
  return repo.is_private || !repo.gated.empty() ? Role::none : caller.anonymous_role;
}

Role role_of_user(const Caller& caller, const RepoAccess& repo, bool access_granted) {
  Role everybody = public_role(caller, repo);
  if (!caller.user) return everybody;
  if (caller.user->disabled) return Role::none;
  bool readable = !repo.is_private && (repo.gated.empty() || access_granted);
  return std::max({own_role(caller, repo.owner), everybody, readable ? Role::read : Role::none});
}

// The most that the token lets its user do. A fine-grained one never takes away what everybody may.
Role role_of_token(const Caller& caller, const RepoAccess& repo) {
  if (!caller.token || caller.token->role == "write") return Role::admin;
  if (caller.token->role == "read") return Role::read;
  Role role = public_role(caller, repo);
  std::string name = repo.type + "/" + repo.owner_name + "/" + repo.name;
  for (auto& [scope, allowed] : caller.token->scopes)
    if (equal_but_case(scope, name)) role = std::max(role, allowed);
  return role;
}

}  // namespace

bool is_repo_type(std::string_view type) {
  return type == "model" || type == "dataset" || type == "space" || type == "kernel";
}

std::string_view to_string(Role role) {
  static constexpr std::string_view names[] = {"none", "read", "write", "admin"};
  return names[size_t(role)];
}

std::optional<Role> parse_role(std::string_view text) {
  for (Role role : {Role::none, Role::read, Role::write, Role::admin})
    if (text == to_string(role)) return role;
  return std::nullopt;
}

Role role_on(const Caller& caller, const RepoAccess& repo, bool access_granted) {
  bool hub_admin = caller.user && caller.user->is_admin;
  if (repo.disabled && !hub_admin) return Role::none;
  return std::min(role_of_user(caller, repo, access_granted), role_of_token(caller, repo));
}

bool may_see(const Caller& caller, const RepoAccess& repo) {
  RepoAccess open = repo;
  open.gated.clear();
  open.disabled = false;
  return role_on(caller, open) != Role::none;
}

bool may_open_pull_request(const Caller& caller, const RepoAccess& repo, bool access_granted) {
  return caller.user && role_on(caller, repo, access_granted) >= Role::read &&
         role_of_token(caller, repo) >= Role::write;
}

Role role_in(const Caller& caller, const Account& owner) {
  Role role = own_role(caller, owner.id);
  if (!caller.token || caller.token->role == "write") return role;
  // Fine-grained tokens name repositories, never a whole namespace.
  return caller.token->role == "read" ? std::min(role, Role::read) : Role::none;
}

}  // namespace pretrained::server
