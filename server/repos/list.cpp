// Lists and search. Pages go by key: the cursor is the sort key and the id of the last row, so a
// page costs the same wherever it lies and rows that come and go move no others.

#include <charconv>

#include "server/repos/repos.h"
#include "server/repos/rows.h"

namespace pretrained::server {
namespace {

constexpr int64_t kTrendWindow = int64_t{7} * 24 * 3600 * 1000;

struct Sql {
  std::string text;
  std::vector<Value> values;
  template <class... Args>
  void add(const std::string& condition, Args&&... args) {
    text += " AND " + condition;
    (values.push_back(to_value(std::forward<Args>(args))), ...);
  }
};

// Likes of the last week; it changes with the clock, which a page boundary may notice.
std::string sort_key(const std::string& sort) {
  if (sort == "lastModified" || sort == "last_modified") return "r.updated_at";
  if (sort == "createdAt" || sort == "created_at") return "r.created_at";
  if (sort == "downloads") return "r.downloads";
  if (sort == "likes") return "(SELECT count(*) FROM likes k WHERE k.repo = r.id)";
  if (sort == "trendingScore" || sort == "trending_score")
    return "(SELECT count(*) FROM likes k WHERE k.repo = r.id AND k.at > " +
           std::to_string(now_ms() - kTrendWindow) + ")";
  throw ArgumentError("sort '" + printable(sort) +
                      "': expected lastModified, createdAt, downloads, likes or trendingScore");
}

// What the rules would let through anyway, so that the rest need not be read; may_see() decides.
void add_visibility(Sql& sql, const Caller& caller) {
  if (caller.user && caller.user->is_admin) return;
  std::string mine;
  if (caller.user) mine = " OR r.owner = " + std::to_string(caller.user->id);
  for (const auto& [org, role] : caller.orgs) mine += " OR r.owner = " + std::to_string(org);
  sql.text += " AND (r.private = 0" + mine + ")";
}

std::string quoted_for_search(const std::string& word) {
  std::string quoted = "\"";
  for (char c : word) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  return quoted + "\"";
}

// Every word must occur in "owner/name". The index knows runs of three characters and more.
void add_search(Sql& sql, const std::string& search) {
  size_t at = 0;
  while ((at = search.find_first_not_of(" \t\r\n", at)) != search.npos) {
    std::string word = search.substr(at, search.find_first_of(" \t\r\n", at) - at);
    at += word.size();
    bool ascii = true;
    for (char c : word) ascii &= static_cast<unsigned char>(c) < 0x80 && c != '\0';
    if (ascii && word.size() >= 3)
      sql.add("r.id IN (SELECT rowid FROM repo_search WHERE repo_search MATCH ?)",
              "name : " + quoted_for_search(word));
    else
      sql.add("instr(lower(a.name || '/' || r.name), lower(?)) > 0", word);
  }
}

void add_gated(Sql& sql, const std::string& gated) {
  if (gated == "auto" || gated == "manual")
    sql.add("r.gated = ?", gated);
  else if (gated == "true" || gated == "True")
    sql.add("r.gated IS NOT NULL");
  else if (gated == "false" || gated == "False")
    sql.add("r.gated IS NULL");
  else
    throw ArgumentError("gated '" + printable(gated) + "': expected true, false, auto or manual");
}

void add_cursor(Sql& sql, const std::string& key, bool descending, const std::string& cursor) {
  int64_t value = 0, id = 0;
  const char* end = cursor.data() + cursor.size();
  auto first = std::from_chars(cursor.data(), end, value);
  bool good = first.ec == std::errc() && first.ptr != end && *first.ptr == '_';
  if (good) {
    auto second = std::from_chars(first.ptr + 1, end, id);
    good = second.ec == std::errc() && second.ptr == end;
  }
  if (!good) throw ArgumentError("cursor '" + printable(cursor) + "': not one of ours");
  std::string sign = descending ? "<" : ">";
  sql.add("(" + key + " " + sign + " ? OR (" + key + " = ? AND r.id " + sign + " ?))", value, value,
          id);
}

Sql conditions(const Caller& caller, const ListQuery& query, const std::string& key) {
  Sql sql;
  sql.text = "WHERE r.type = ? AND r.disabled = 0";
  sql.values.push_back(query.type);
  add_visibility(sql, caller);
  if (query.author) sql.add("a.name = ?", *query.author);
  if (query.search) add_search(sql, query.search->substr(0, 200));
  if (query.pipeline_tag) sql.add("r.pipeline_tag = ?", *query.pipeline_tag);
  if (query.filters.size() > 20) throw ArgumentError("filter: at most 20 tags at once");
  for (const auto& tag : query.filters)
    sql.add("EXISTS (SELECT 1 FROM json_each(r.tags) WHERE value = ?)", tag);
  if (query.models.size() + query.datasets.size() > 20)
    throw ArgumentError("models, datasets: at most 20 at once");
  for (const auto& name : query.models)
    sql.add("EXISTS (SELECT 1 FROM json_each(r.card, '$.models') WHERE value = ?)", name);
  for (const auto& name : query.datasets)
    sql.add("EXISTS (SELECT 1 FROM json_each(r.card, '$.datasets') WHERE value = ?)", name);
  if (query.linked)
    sql.add(
        "(json_extract(r.card, '$.models') IS NOT NULL OR"
        " json_extract(r.card, '$.datasets') IS NOT NULL)");
  if (query.gated) add_gated(sql, *query.gated);
  if (query.min_parameters) sql.add("r.parameters >= ?", *query.min_parameters);
  if (query.max_parameters) sql.add("r.parameters <= ?", *query.max_parameters);
  if (!query.cursor.empty()) add_cursor(sql, key, query.descending, query.cursor);
  return sql;
}

}  // namespace

std::vector<Repo> Repos::list(const Caller& caller, const ListQuery& query, std::string& next) {
  next.clear();
  std::string key = sort_key(query.sort);
  Sql sql = conditions(caller, query, key);
  std::string order = query.descending ? " DESC" : "";
  std::string text =
      select_repos(", " + key) + sql.text + " ORDER BY " + key + order + ", r.id" + order;
  std::vector<Repo> page;
  int64_t last_key = 0;
  if (query.limit <= 0) return page;
  database_.read([&](Transaction& t) {
    t.each_values(text, sql.values, [&](const Row& row) {
      Repo repo = repo_of(row);
      if (!may_see(caller, repo.access)) return true;
      if (int64_t(page.size()) == query.limit) {
        next = std::to_string(last_key) + "_" + std::to_string(page.back().access.id);
        return false;
      }
      last_key = row.integer(kRepoColumns);
      page.push_back(std::move(repo));
      return true;
    });
  });
  return page;
}

}  // namespace pretrained::server
