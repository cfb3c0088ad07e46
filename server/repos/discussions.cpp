#include "server/repos/discussions.h"

#include <mutex>

#include "server/repos/webhooks.h"

namespace pretrained::server {
namespace {

constexpr size_t kMaxTitle = 250, kMaxText = 64 << 10;
constexpr int64_t kMaxEvents = 10'000, kMaxEventBytes = 16 << 20;  // of one discussion

constexpr const char* kColumns =
    "num, title, author, status, is_pull_request, base, merge_commit, created_at, author_id";
constexpr const char* kEventColumns = "id, type, author, data, created_at, author_id";

Discussion discussion_of(const Row& row) {
  Discussion d;
  d.num = row.integer(0);
  d.title = row.text(1);
  d.author = row.text(2);
  d.status = row.text(3);
  d.is_pull_request = row.integer(4) != 0;
  d.base = row.optional_text(5).value_or("");
  d.merge_commit = row.optional_text(6);
  d.created_at = row.integer(7);
  d.author_id = row.optional_integer(8);
  return d;
}

DiscussionEvent event_of(const Row& row) {
  return {row.text(0),
          row.text(1),
          row.text(2),
          row.optional_integer(5),
          Json::parse(row.text(3), "discussion_events.data"),
          row.integer(4)};
}

std::string checked_title(const std::string& title) {
  size_t first = title.find_first_not_of(" \t\r\n");
  if (first == title.npos) throw ArgumentError("title: is empty");
  std::string trimmed = title.substr(first, title.find_last_not_of(" \t\r\n") - first + 1);
  if (trimmed.size() > kMaxTitle)
    throw ArgumentError("title: longer than " + std::to_string(kMaxTitle) + " bytes");
  return trimmed;
}

void check_text(const std::string& text) {
  if (text.size() > kMaxText)
    throw ArgumentError("comment: longer than " + std::to_string(kMaxText) + " bytes");
}

Json comment_data(const std::string& text, const std::string& author, int64_t edits, bool hidden) {
  return Json::Object{{"edited", edits > 0},
                      {"hidden", hidden},
                      {"numEdits", edits},
                      {"latest", Json::Object{{"raw", text},
                                              {"updatedAt", iso8601(now_ms())},
                                              {"author", Json::Object{{"name", author}}}}}};
}

Json::Object payload(const Discussion& d) {
  return {{"discussion", Json::Object{{"num", d.num},
                                      {"title", d.title},
                                      {"status", d.status},
                                      {"isPullRequest", d.is_pull_request},
                                      {"author", Json::Object{{"name", d.author}}}}}};
}

void announce(Transaction& t, const Repo& repo, const Discussion& d, const std::string& action) {
  queue_event(t, repo, "discussion", action, payload(d));
}

void announce_comment(Transaction& t, const Repo& repo, const Discussion& d,
                      const DiscussionEvent& event, const std::string& action) {
  Json::Object details = payload(d);
  details["comment"] = Json::Object{{"id", event.id},
                                    {"author", Json::Object{{"name", event.author}}},
                                    {"content", *event.data.find("latest")->find("raw")}};
  queue_event(t, repo, "discussion.comment", action, details);
}

int64_t next_number(Transaction& t, const Repo& repo) {
  return t.one("SELECT coalesce(max(num), 0) + 1 FROM discussions WHERE repo = ?", repo.access.id)
      ->integer(0);
}

std::optional<int64_t> id_of(const Caller& caller) {
  return caller.user ? std::optional(caller.user->id) : std::nullopt;
}

void insert(Transaction& t, const Caller& caller, const Repo& repo, const Discussion& d,
            const std::string& text) {
  t.run(
      "INSERT INTO discussions (repo, num, title, author, author_id, is_pull_request, status, base,"
      " created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
      repo.access.id, d.num, d.title, d.author, d.author_id, d.is_pull_request, d.status,
      d.is_pull_request ? std::optional<std::string>(d.base) : std::nullopt, d.created_at);
  add_event(t, repo, d.num, "comment", caller, comment_data(text, d.author, 0, false));
  announce(t, repo, d, "create");
}

}  // namespace

namespace {

// Details show all events at once.
void check_room(Transaction& t, const Repo& repo, int64_t num) {
  auto row = t.one(
      "SELECT count(*), coalesce(sum(length(data)), 0) FROM discussion_events"
      " WHERE repo = ? AND num = ?",
      repo.access.id, num);
  if (row->integer(0) >= kMaxEvents || row->integer(1) >= kMaxEventBytes)
    throw ArgumentError("discussion " + std::to_string(num) + " is full: open another one");
}

}  // namespace

DiscussionEvent add_event(Transaction& t, const Repo& repo, int64_t num, const std::string& type,
                          const Caller& author, const Json& data) {
  check_room(t, repo, num);
  DiscussionEvent event{random_hex(24), type, author.name(), id_of(author), data, now_ms()};
  t.run(
      "INSERT INTO discussion_events (id, repo, num, ordinal, type, author, author_id, data,"
      " created_at) SELECT ?, ?, ?, coalesce(max(ordinal), 0) + 1, ?, ?, ?, ?, ?"
      " FROM discussion_events WHERE repo = ? AND num = ?",
      event.id, repo.access.id, num, type, event.author, event.author_id, data.dump(0),
      event.created_at, repo.access.id, num);
  return event;
}

std::optional<Discussion> Discussions::find(const Repo& repo, int64_t num) {
  return database_.read([&](Transaction& t) -> std::optional<Discussion> {
    auto row =
        t.one(std::string("SELECT ") + kColumns + " FROM discussions WHERE repo = ? AND num = ?",
              repo.access.id, num);
    return row ? std::optional<Discussion>(discussion_of(*row)) : std::nullopt;
  });
}

std::vector<Discussion> Discussions::list(const Repo& repo, const DiscussionQuery& query,
                                          int64_t& total) {
  std::string where = " FROM discussions WHERE repo = ?";
  std::vector<Value> values{repo.access.id};
  if (query.pull_requests) {
    where += " AND is_pull_request = ?";
    values.push_back(int64_t(*query.pull_requests));
  }
  if (query.status) {
    where += *query.status == "open"     ? " AND status IN ('open', 'draft')"
             : *query.status == "closed" ? " AND status IN ('closed', 'merged')"
                                         : " AND status = ?";
    if (*query.status != "open" && *query.status != "closed") values.push_back(*query.status);
  }
  if (query.author) {
    where += " AND author = ? COLLATE NOCASE";
    values.push_back(*query.author);
  }
  std::vector<Discussion> page;
  database_.read([&](Transaction& t) {
    t.each_values("SELECT count(*)" + where, values, [&](const Row& row) {
      total = row.integer(0);
      return false;
    });
    values.push_back(query.limit);
    values.push_back(query.offset);
    t.each_values(std::string("SELECT ") + kColumns + where + " ORDER BY num DESC LIMIT ? OFFSET ?",
                  values, [&](const Row& row) {
                    page.push_back(discussion_of(row));
                    return true;
                  });
  });
  return page;
}

std::vector<DiscussionEvent> Discussions::events(const Repo& repo, int64_t num) {
  return database_.read([&](Transaction& t) {
    std::vector<DiscussionEvent> events;
    for (const auto& row :
         t.query(std::string("SELECT ") + kEventColumns +
                     " FROM discussion_events WHERE repo = ? AND num = ? ORDER BY ordinal",
                 repo.access.id, num))
      events.push_back(event_of(row));
    return events;
  });
}

std::optional<DiscussionEvent> Discussions::event(const Repo& repo, int64_t num,
                                                  const std::string& id) {
  return database_.read([&](Transaction& t) -> std::optional<DiscussionEvent> {
    auto row = t.one(std::string("SELECT ") + kEventColumns +
                         " FROM discussion_events WHERE id = ? AND repo = ? AND num = ?",
                     id, repo.access.id, num);
    return row ? std::optional<DiscussionEvent>(event_of(*row)) : std::nullopt;
  });
}

Discussion Discussions::open(const Caller& caller, const Repo& repo, const std::string& title,
                             const std::string& description) {
  check_text(description);
  Discussion d;
  d.title = checked_title(title);
  d.author = caller.name();
  d.author_id = id_of(caller);
  d.status = "open";
  d.created_at = now_ms();
  database_.write([&](Transaction& t) {
    d.num = next_number(t, repo);
    insert(t, caller, repo, d, description);
  });
  return d;
}

Discussion Discussions::open_pull_request(const Caller& caller, const Repo& repo,
                                          const std::string& title, const std::string& description,
                                          bool draft, const PullRequestContent& content,
                                          const std::string& base) {
  check_text(description);
  Discussion d;
  d.title = checked_title(title);
  d.author = caller.name();
  d.author_id = id_of(caller);
  d.status = draft ? "draft" : "open";
  d.is_pull_request = true;
  d.base = base;
  d.created_at = now_ms();
  Oid head = content.packs.empty() ? content.head : content.packs.back().commit;
  // The number is part of the reference's name, so it is chosen before the transaction. Within this
  // process one goes after the other; whoever loses against another process gets RefConflict or
  // ConflictError, for packs are gone by then.
  static std::mutex numbering;
  std::lock_guard lock(numbering);
  d.num = database_.read([&](Transaction& t) { return next_number(t, repo); });
  repos_.publish(caller, repo, content.packs, {{d.ref(), kNoOid, head}}, content.objects,
                 [&](Transaction& t) { insert(t, caller, repo, d, description); });
  return d;
}

DiscussionEvent Discussions::comment(const Caller& caller, const Repo& repo,
                                     const Discussion& discussion, const std::string& text) {
  check_text(text);
  if (text.empty()) throw ArgumentError("comment: is empty");
  return database_.write([&](Transaction& t) {
    auto event = add_event(t, repo, discussion.num, "comment", caller,
                           comment_data(text, caller.name(), 0, false));
    announce_comment(t, repo, discussion, event, "create");
    return event;
  });
}

namespace {

// Rewrites a comment that is not hidden.
DiscussionEvent rewrite(Database& database, const Repo& repo, const Discussion& discussion,
                        const std::string& id, const std::string& text, bool hide) {
  return database.write([&](Transaction& t) {
    auto row = t.one(std::string("SELECT ") + kEventColumns +
                         " FROM discussion_events WHERE id = ? AND repo = ? AND num = ?",
                     id, repo.access.id, discussion.num);
    if (!row || row->text(1) != "comment")
      throw NotFoundError("comment " + printable(id) + ": not found");
    DiscussionEvent event = event_of(*row);
    const Json* hidden = event.data.find("hidden");
    if (hidden && *hidden == Json(true)) throw ConflictError("comment " + id + ": is hidden");
    const Json* edits = event.data.find("numEdits");
    const int64_t* count = edits ? edits->get_if<int64_t>() : nullptr;
    if (!hide) check_room(t, repo, discussion.num);
    event.data = comment_data(text, event.author, (count ? *count : 0) + (hide ? 0 : 1), hide);
    t.run("UPDATE discussion_events SET data = ? WHERE id = ?", event.data.dump(0), id);
    announce_comment(t, repo, discussion, event, hide ? "delete" : "update");
    return event;
  });
}

}  // namespace

DiscussionEvent Discussions::edit(const Repo& repo, const Discussion& discussion,
                                  const std::string& event, const std::string& text) {
  check_text(text);
  if (text.empty()) throw ArgumentError("content: is empty");
  return rewrite(database_, repo, discussion, event, text, false);
}

DiscussionEvent Discussions::hide(const Caller&, const Repo& repo, const Discussion& discussion,
                                  const std::string& event) {
  return rewrite(database_, repo, discussion, event, "", true);
}

DiscussionEvent Discussions::rename(const Caller& caller, const Repo& repo,
                                    const Discussion& discussion, const std::string& title) {
  Discussion renamed = discussion;
  renamed.title = checked_title(title);
  return database_.write([&](Transaction& t) {
    t.run("UPDATE discussions SET title = ? WHERE repo = ? AND num = ?", renamed.title,
          repo.access.id, discussion.num);
    announce(t, repo, renamed, "update");
    return add_event(t, repo, discussion.num, "title-change", caller,
                     Json::Object{{"from", discussion.title}, {"to", renamed.title}});
  });
}

DiscussionEvent Discussions::set_status(const Caller& caller, const Repo& repo,
                                        const Discussion& discussion, const std::string& status,
                                        const std::string& comment) {
  if (status != "open" && status != "closed")
    throw ArgumentError("status '" + printable(status) + "': expected open or closed");
  check_text(comment);
  Discussion changed = discussion;
  changed.status = status;
  return database_.write([&](Transaction& t) {
    int64_t rows = t.run(
        "UPDATE discussions SET status = ? WHERE repo = ? AND num = ?"
        " AND status <> 'merged' AND status <> ?",
        status, repo.access.id, discussion.num, status);
    if (rows == 0)
      throw ConflictError("discussion " + std::to_string(discussion.num) + ": is " +
                          (discussion.status == "merged" ? "merged" : status) + " already");
    if (!comment.empty())
      add_event(t, repo, discussion.num, "comment", caller,
                comment_data(comment, caller.name(), 0, false));
    announce(t, repo, changed, "update");
    return add_event(t, repo, discussion.num, "status-change", caller,
                     Json::Object{{"status", status}});
  });
}

namespace {

struct Ends {
  Oid base, head;
};

std::optional<Ends> ends_of(GitStore& git, const Repo& repo, const Discussion& pull_request) {
  auto base = git.resolve(repo.access.id, pull_request.base);
  auto head = git.resolve(repo.access.id, pull_request.ref());
  if (!base || !head) return std::nullopt;
  return Ends{*base, *head};
}

std::string joined(const std::vector<std::string>& paths) {
  std::string text;
  for (size_t i = 0; i < paths.size() && i < 20; ++i) text += (i ? ", " : "") + printable(paths[i]);
  return paths.size() > 20 ? text + ", …" : text;
}

}  // namespace

std::vector<std::string> Discussions::conflicts(const Repo& repo, const Discussion& pull_request) {
  if (pull_request.status == "merged") return {};
  auto ends = ends_of(git_, repo, pull_request);
  if (!ends) return {};
  return git_.merge_conflicts(repo.access.id, ends->base, ends->head);
}

std::string Discussions::diff(const Repo& repo, const Discussion& pull_request) {
  auto view = git_.open(repo.access.id);
  if (pull_request.merge_commit) {
    auto merged = view->commit(*pull_request.merge_commit);
    return merged && !merged->parents.empty() ? view->diff(merged->parents[0], merged->oid) : "";
  }
  auto ends = ends_of(git_, repo, pull_request);
  if (!ends) return "";
  return view->diff(view->merge_base(ends->base, ends->head).value_or(kNoOid), ends->head);
}

Oid Discussions::merge(const Caller& caller, const Repo& repo, const Discussion& pull_request,
                       const std::string& comment) {
  std::string name = "pull request " + std::to_string(pull_request.num);
  if (!pull_request.is_pull_request)
    throw ArgumentError("discussion " + std::to_string(pull_request.num) + " is no pull request");
  if (pull_request.status != "open")
    throw ConflictError(name + ": is " + pull_request.status + ", only open ones can be merged");
  check_text(comment);
  auto ends = ends_of(git_, repo, pull_request);
  if (!ends) throw NotFoundError(name + ": its branch is gone");
  if (git_.open(repo.access.id)->is_ancestor(ends->head, ends->base))
    throw ArgumentError(name + ": has no commits that " + pull_request.base + " lacks");
  auto blocked = git_.merge_conflicts(repo.access.id, ends->base, ends->head);
  if (!blocked.empty()) throw ConflictError(name + ": conflicts in " + joined(blocked));

  NewCommit commit;
  commit.title = pull_request.title + " (#" + std::to_string(pull_request.num) + ")";
  commit.author = commit_author(caller);
  auto stored = git_.write_merge(repo.access.id, ends->base, ends->head, commit);
  repos_.publish(caller, repo, {stored},
                 {{pull_request.base, ends->base, stored.commit},
                  // Unchanged: but a push to it in between must not be taken for merged.
                  {pull_request.ref(), ends->head, ends->head}},
                 {}, [&](Transaction& t) {
                   int64_t rows = t.run(
                       "UPDATE discussions SET status = 'merged', merge_commit = ?"
                       " WHERE repo = ? AND num = ? AND status = 'open'",
                       stored.commit, repo.access.id, pull_request.num);
                   if (rows == 0) throw ConflictError(name + ": is not open any more");
                   if (!comment.empty())
                     add_event(t, repo, pull_request.num, "comment", caller,
                               comment_data(comment, caller.name(), 0, false));
                   add_event(t, repo, pull_request.num, "status-change", caller,
                             Json::Object{{"status", "merged"}});
                   Discussion merged = pull_request;
                   merged.status = "merged";
                   announce(t, repo, merged, "update");
                 });
  return stored.commit;
}

}  // namespace pretrained::server
