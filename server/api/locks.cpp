#include "server/api/locks.h"

#include <charconv>

#include "server/api/changes.h"

namespace pretrained::server {
namespace {

constexpr int64_t kPage = 100;

Response lfs_response(const Json& value, int status = 200) {
  Response response = json_response(value, status);
  response.headers.set("Content-Type", "application/vnd.git-lfs+json");
  return response;
}

Repo lock_repo(Call& call, Role needed) {
  try {
    return require_repo(call, needed);
  } catch (const HttpError& e) {
    challenge(call, e);
    throw;
  }
}

int64_t number(const std::string& text, const char* name) {
  int64_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0)
    throw HttpError(422, "", std::string(name) + ": expected a number");
  return value;
}

struct Lock {
  int64_t id = 0, user = 0;
  Json::Object json;
};

// In the order of their numbers; `after` is the last of the page before.
std::vector<Lock> find_locks(Transaction& t, const Repo& repo, const std::string& path, int64_t id,
                             int64_t after, int64_t limit) {
  std::vector<Lock> locks;
  for (const auto& row :
       t.query("SELECT l.id, l.user, l.path, l.locked_at, a.name FROM lfs_locks l"
               " JOIN accounts a ON a.id = l.user WHERE l.repo = ?1 AND l.id > ?2"
               " AND (?3 = '' OR l.path = ?3) AND (?4 = 0 OR l.id = ?4) ORDER BY l.id LIMIT ?5",
               repo.access.id, after, path, id, limit))
    locks.push_back({row.integer(0),
                     row.integer(1),
                     {{"id", std::to_string(row.integer(0))},
                      {"path", row.text(2)},
                      {"locked_at", iso8601(row.integer(3))},
                      {"owner", Json::Object{{"name", row.text(4)}}}}});
  return locks;
}

struct Page {
  std::vector<Lock> locks;
  std::string next;
};

Page read_page(Call& call, const Repo& repo, const std::string& path, int64_t id,
               const std::string& cursor, int64_t limit) {
  limit = limit <= 0 ? kPage : std::min(limit, kPage);
  int64_t after = cursor.empty() ? 0 : number(cursor, "cursor");
  Page page;
  page.locks = call.services.database.read(
      [&](Transaction& t) { return find_locks(t, repo, path, id, after, limit + 1); });
  if (page.locks.size() > size_t(limit)) {
    page.locks.pop_back();
    page.next = std::to_string(page.locks.back().id);
  }
  return page;
}

Response create(Call& call) {
  Repo repo = lock_repo(call, Role::write);
  const Account& user = require_user(call, true);
  std::string path = string_field(read_json(call), "path");
  if (path.empty() || path.size() > 4096 || path.find('\0') != path.npos)
    throw HttpError(422, "", "field 'path': expected 1 to 4096 bytes");
  bool taken = false;
  auto lock = call.services.database.write([&](Transaction& t) {
    auto there = find_locks(t, repo, path, 0, 0, 1);
    taken = !there.empty();
    if (!taken) {
      t.run("INSERT INTO lfs_locks (repo, user, path, locked_at) VALUES (?, ?, ?, ?)",
            repo.access.id, user.id, path, now_ms());
      there = find_locks(t, repo, path, 0, 0, 1);
    }
    return there.at(0);
  });
  Json::Object answer{{"lock", lock.json}};
  if (taken) answer["message"] = "already locked: " + printable(path);
  return lfs_response(answer, taken ? 409 : 201);
}

Response list(Call& call) {
  Repo repo = lock_repo(call, Role::read);
  auto parameter = [&](const char* name) { return call.request.parameter(name).value_or(""); };
  auto optional_number = [&](const char* name) {
    return parameter(name).empty() ? 0 : number(parameter(name), name);
  };
  Page page = read_page(call, repo, parameter("path"), optional_number("id"), parameter("cursor"),
                        optional_number("limit"));
  Json::Array locks;
  for (auto& lock : page.locks) locks.push_back(std::move(lock.json));
  Json::Object answer{{"locks", std::move(locks)}};
  if (!page.next.empty()) answer["next_cursor"] = page.next;
  return lfs_response(answer);
}

Response verify(Call& call) {
  Repo repo = lock_repo(call, Role::write);
  Json body = read_json(call);
  const Json* limit = body.find("limit");
  const int64_t* most = limit ? limit->get_if<int64_t>() : nullptr;
  Page page = read_page(call, repo, "", 0, optional_string_field(body, "cursor").value_or(""),
                        most ? *most : 0);
  Json::Array ours, theirs;
  for (auto& lock : page.locks) {
    bool own = call.caller.user && call.caller.user->id == lock.user;
    (own ? ours : theirs).push_back(std::move(lock.json));
  }
  Json::Object answer{{"ours", std::move(ours)}, {"theirs", std::move(theirs)}};
  if (!page.next.empty()) answer["next_cursor"] = page.next;
  return lfs_response(answer);
}

Response unlock(Call& call) {
  Repo repo = lock_repo(call, Role::write);
  const Account& user = require_user(call, true);
  bool force = bool_field(read_json(call), "force", false);
  int64_t id = number(call.captures.at("id"), "id");
  auto lock = call.services.database.write([&](Transaction& t) {
    auto there = find_locks(t, repo, "", id, 0, 1);
    if (id == 0 || there.empty()) throw HttpError(404, "", "no such lock");
    if (there[0].user != user.id && !force)
      throw HttpError(403, "", "somebody else holds this lock; --force breaks it");
    t.run("DELETE FROM lfs_locks WHERE id = ?", id);
    return there[0];
  });
  call.services.accounts.audit(call.caller, "lfs.unlock", repo.access.type + " " + repo.full_name(),
                               lock.json.at("path").dump(0));
  return lfs_response(Json::Object{{"lock", lock.json}});
}

}  // namespace

std::vector<Route<ApiHandler>> lock_routes(const std::string& lfs) {
  return {{"POST", lfs + "/locks", create},
          {"GET", lfs + "/locks", list},
          {"POST", lfs + "/locks/verify", verify},
          {"POST", lfs + "/locks/{id}/unlock", unlock}};
}

}  // namespace pretrained::server
