#include "server/git/objects.h"

#include <git2/sys/repository.h>

#include <algorithm>
#include <cstring>

namespace pretrained::server {
namespace fs = std::filesystem;
namespace {

constexpr uint64_t kMaxTree = 256 << 20;
constexpr int kMaxDepth = 512;  // of folders in folders, and of tags of tags

// libgit2 must see no configuration but ours and keep few files open.
void start_libgit2() {
  static const bool started = [] {
    git_libgit2_init();
    for (int level : {GIT_CONFIG_LEVEL_PROGRAMDATA, GIT_CONFIG_LEVEL_SYSTEM, GIT_CONFIG_LEVEL_XDG,
                      GIT_CONFIG_LEVEL_GLOBAL})
      git_libgit2_opts(GIT_OPT_SET_SEARCH_PATH, level, "");
    git_libgit2_opts(GIT_OPT_DISABLE_PACK_KEEP_FILE_CHECKS, 1);
    git_libgit2_opts(GIT_OPT_SET_MWINDOW_FILE_LIMIT, size_t{512});
    git_libgit2_opts(GIT_OPT_SET_CACHE_MAX_SIZE, ssize_t{64 << 20});
    return true;
  }();
  (void)started;
}

int compare_names(const RawEntry& a, const RawEntry& b) {
  size_t common = std::min(a.name.size(), b.name.size());
  if (int order = std::memcmp(a.name.data(), b.name.data(), common)) return order;
  auto next = [&](const RawEntry& entry) {
    if (entry.name.size() > common) return int(uint8_t(entry.name[common]));
    return entry.is_tree() ? int('/') : 0;
  };
  return next(a) - next(b);
}

void compare_level(Objects& objects, const git_oid* before, const git_oid* after,
                   const std::function<bool(const TreeChange&)>& visit, const std::string& folder,
                   int depth) {
  if (depth > kMaxDepth) throw FormatError("tree: folders are nested too deep");
  RawTree old_tree = before ? objects.tree(*before) : RawTree();
  RawTree new_tree = after ? objects.tree(*after) : RawTree();
  auto report = [&](const RawEntry* a, const RawEntry* b) {
    if (a && b && a->mode == b->mode && git_oid_equal(&a->oid, &b->oid)) return;
    std::string_view name = a ? a->name : b->name;
    if (!visit({folder, name, a, b})) return;
    const git_oid* old_folder = a && a->is_tree() ? &a->oid : nullptr;
    const git_oid* new_folder = b && b->is_tree() ? &b->oid : nullptr;
    if (old_folder || new_folder)
      compare_level(objects, old_folder, new_folder, visit, join_path(folder, name), depth + 1);
  };
  auto a = old_tree.entries.begin();
  auto b = new_tree.entries.begin();
  while (a != old_tree.entries.end() || b != new_tree.entries.end()) {
    int order = a == old_tree.entries.end()   ? 1
                : b == new_tree.entries.end() ? -1
                                              : compare_names(*a, *b);
    report(order <= 0 ? &*a : nullptr, order >= 0 ? &*b : nullptr);
    if (order <= 0) ++a;
    if (order >= 0) ++b;
  }
}

}  // namespace

void git_check(int code, const std::string& what) {
  if (code >= 0) return;
  const git_error* error = git_error_last();
  std::string message =
      what + ": " + printable(error && error->message ? error->message : "failed");
  if (code == GIT_ENOTFOUND) throw NotFoundError(message);
  throw Error(message);
}

std::string to_hex(const git_oid& oid) {
  std::string text(40, '0');
  git_oid_fmt(text.data(), &oid);
  return text;
}

bool is_oid(std::string_view text) {
  return text.size() == 40 && text.find_first_not_of("0123456789abcdef") == text.npos;
}

git_oid from_hex(const Oid& text) {
  if (!is_oid(text))
    throw ArgumentError("'" + printable(text) + "': expected 40 lower-case hex digits");
  git_oid oid;
  git_oid_fromstr(&oid, text.c_str());
  return oid;
}

git_oid hash_object(git_object_t type, std::string_view bytes) {
  start_libgit2();
  git_oid oid;
  git_check(git_odb_hash(&oid, bytes.data(), bytes.size(), type), "object id");
  return oid;
}

TreeEntry::Kind RawEntry::kind() const {
  if (is_tree()) return TreeEntry::Kind::folder;
  if (mode == 0120000) return TreeEntry::Kind::link;
  if (mode == 0160000) return TreeEntry::Kind::submodule;
  return TreeEntry::Kind::file;
}

RawTree::RawTree(git_odb_object* tree) : object_(tree) {
  auto* data = static_cast<const char*>(git_odb_object_data(tree));
  std::string_view rest(data, git_odb_object_size(tree));
  auto bad = [&] {
    return FormatError("tree " + to_hex(*git_odb_object_id(tree)) + ": malformed");
  };
  while (!rest.empty()) {
    RawEntry entry{};
    size_t space = rest.substr(0, 8).find(' ');
    size_t end = rest.find('\0');
    if (space == rest.npos || space == 0 || end == rest.npos || end <= space + 1 ||
        rest.size() < end + 1 + GIT_OID_RAWSZ)
      throw bad();
    for (char digit : rest.substr(0, space)) {
      if (digit < '0' || digit > '7') throw bad();
      entry.mode = entry.mode * 8 + uint32_t(digit - '0');
    }
    entry.name = rest.substr(space + 1, end - space - 1);
    git_oid_fromraw(&entry.oid, reinterpret_cast<const unsigned char*>(rest.data() + end + 1));
    rest.remove_prefix(end + 1 + GIT_OID_RAWSZ);
    entries.push_back(entry);
  }
}

const RawEntry* RawTree::find(std::string_view name) const {
  for (bool is_tree : {false, true}) {
    RawEntry wanted{is_tree ? 040000u : 0100644u, name, {}};
    auto found = std::lower_bound(
        entries.begin(), entries.end(), wanted,
        [](const RawEntry& a, const RawEntry& b) { return compare_names(a, b) < 0; });
    if (found != entries.end() && found->name == name) return &*found;
  }
  return nullptr;
}

Objects::Objects(const std::vector<fs::path>& folders, const fs::path& loose) {
  start_libgit2();
  git_odb* odb;
  git_check(git_odb_new(&odb), "object database");
  odb_.reset(odb);
  auto add = [&](git_odb_backend* backend) {
    git_check(git_odb_add_backend(odb, backend, 1), "object database");
  };
  git_odb_backend* backend;
  for (auto& folder : folders) {
    git_check(git_odb_backend_pack(&backend, folder.c_str()), folder.string());
    add(backend);
  }
  if (!loose.empty()) {
    git_check(git_odb_backend_loose(&backend, loose.c_str(), -1, 0, 0, 0), loose.string());
    add(backend);
  }
  git_repository* repository;
  git_check(git_repository_wrap_odb(&repository, odb), "object database");
  repository_.reset(repository);
}

bool Objects::has(const git_oid& oid) {
  return git_odb_exists_ext(odb_.get(), &oid, GIT_ODB_LOOKUP_NO_REFRESH) == 1;
}

git_object_t Objects::type(const git_oid& oid) {
  size_t size;
  git_object_t type;
  int code = git_odb_read_header(&size, &type, odb_.get(), &oid);
  if (code == GIT_ENOTFOUND) return GIT_OBJECT_INVALID;
  git_check(code, "object " + to_hex(oid));
  return type;
}

uint64_t Objects::size(const git_oid& oid) {
  size_t size;
  git_object_t type;
  git_check(git_odb_read_header(&size, &type, odb_.get(), &oid), "object " + to_hex(oid));
  return size;
}

std::string Objects::read(const git_oid& oid, git_object_t type, uint64_t limit) {
  std::string name = "object " + to_hex(oid);
  if (uint64_t length = size(oid); length > limit)
    throw FormatError(name + ": " + std::to_string(length) + " bytes, more than " +
                      std::to_string(limit));
  git_odb_object* raw;
  git_check(git_odb_read(&raw, odb_.get(), &oid), name);
  GitPointer<git_odb_object, git_odb_object_free> object(raw);
  if (git_odb_object_type(raw) != type)
    throw FormatError(name + ": a " + git_object_type2string(git_odb_object_type(raw)) +
                      ", expected a " + git_object_type2string(type));
  return std::string(static_cast<const char*>(git_odb_object_data(raw)), git_odb_object_size(raw));
}

RawTree Objects::tree(const git_oid& oid) {
  std::string name = "tree " + to_hex(oid);
  git_odb_object* raw;
  git_check(git_odb_read(&raw, odb_.get(), &oid), name);
  GitPointer<git_odb_object, git_odb_object_free> object(raw);
  if (git_odb_object_type(raw) != GIT_OBJECT_TREE) throw FormatError(name + ": not a tree");
  if (git_odb_object_size(raw) > kMaxTree) throw FormatError(name + ": too large");
  return RawTree(object.release());
}

std::optional<CommitInfo> Objects::commit(const git_oid& oid) {
  git_commit* raw;
  int code = git_commit_lookup(&raw, repository_.get(), &oid);
  // An id that names another kind of object is no commit either.
  if (code == GIT_ENOTFOUND) return std::nullopt;
  git_check(code, "commit " + to_hex(oid));
  GitPointer<git_commit, git_commit_free> commit(raw);
  CommitInfo info;
  info.oid = to_hex(oid);
  info.tree = to_hex(*git_commit_tree_id(raw));
  for (unsigned i = 0; i < git_commit_parentcount(raw); ++i)
    info.parents.push_back(to_hex(*git_commit_parent_id(raw, i)));
  const git_signature* author = git_commit_author(raw);
  info.author = {author->name ? author->name : "", author->email ? author->email : ""};
  info.time_ms = int64_t(git_commit_time(raw)) * 1000;
  std::string text = git_commit_message(raw);
  size_t line = std::min(text.find('\n'), text.size());
  info.title = text.substr(0, line);
  size_t rest = std::min(text.find_first_not_of('\n', line), text.size());
  info.message = text.substr(rest);
  while (!info.message.empty() && info.message.back() == '\n') info.message.pop_back();
  return info;
}

git_oid Objects::tree_of(const git_oid& oid) {
  git_commit* commit;
  git_check(git_commit_lookup(&commit, repository_.get(), &oid), "commit " + to_hex(oid));
  git_oid tree = *git_commit_tree_id(commit);
  git_commit_free(commit);
  return tree;
}

std::optional<git_oid> Objects::peel(const git_oid& oid) {
  git_oid target = oid;
  for (int depth = 0; depth < kMaxDepth; ++depth) {
    git_object_t kind = type(target);
    if (kind == GIT_OBJECT_COMMIT) return target;
    if (kind != GIT_OBJECT_TAG) return std::nullopt;
    git_tag* tag;
    git_check(git_tag_lookup(&tag, repository_.get(), &target), "tag " + to_hex(target));
    target = *git_tag_target_id(tag);
    git_tag_free(tag);
  }
  return std::nullopt;
}

void compare_trees(Objects& objects, const git_oid& before, const git_oid& after,
                   const std::function<bool(const TreeChange&)>& visit, const std::string& folder) {
  if (git_oid_equal(&before, &after)) return;
  compare_level(objects, git_oid_is_zero(&before) ? nullptr : &before,
                git_oid_is_zero(&after) ? nullptr : &after, visit, folder, 0);
}

std::string join_path(const std::string& folder, std::string_view name) {
  return folder.empty() ? std::string(name) : folder + "/" + std::string(name);
}

}  // namespace pretrained::server
