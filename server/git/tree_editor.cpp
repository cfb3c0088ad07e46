#include "server/git/tree_editor.h"

#include "server/git/state.h"

namespace pretrained::server {
namespace {

constexpr uint32_t kFile = 0100644, kFolder = 040000;

bool is_regular(uint32_t mode) { return (mode & 0170000) == 0100000; }

std::string octal(uint32_t mode) {
  char text[16];
  snprintf(text, sizeof text, "%o", mode);
  return text;
}

}  // namespace

TreeEditor::TreeEditor(Objects& objects, const std::optional<git_oid>& root) : objects_(objects) {
  if (root) read(root_, *root);
}

void TreeEditor::read(Folder& folder, const git_oid& tree) {
  RawTree raw = objects_.tree(tree);
  for (auto& entry : raw.entries) {
    std::string key(entry.name);
    if (entry.is_tree()) key += '/';
    folder.items.emplace_hint(folder.items.end(), std::move(key),
                              Item{entry.mode, entry.oid, entry.mode, entry.oid, nullptr});
  }
}

TreeEditor::Folder* TreeEditor::enter(const std::string& path, bool make, std::string& name) {
  Folder* folder = &root_;
  size_t begin = 0;
  for (size_t end; (end = path.find('/', begin)) != path.npos; begin = end + 1) {
    std::string part = path.substr(begin, end - begin);
    auto file = folder->items.find(part);
    if (make && file != folder->items.end() && file->second.mode != 0)
      throw FormatError("path '" + printable(path) + "': '" + printable(path.substr(0, end)) +
                        "' is a file; remove it first");
    auto found = folder->items.find(part + "/");
    bool missing = found == folder->items.end() || found->second.mode == 0;
    if (missing && !make) return nullptr;
    Item& item = found == folder->items.end() ? folder->items[part + "/"] : found->second;
    if (!item.open) {
      item.open = std::make_shared<Folder>();
      if (!missing) read(*item.open, item.oid);
    }
    item.mode = kFolder;
    folder = item.open.get();
  }
  name = path.substr(begin);
  return folder;
}

void TreeEditor::add(const std::string& path, const git_oid& blob) {
  std::string name;
  Folder* folder = enter(path, true, name);
  auto other = folder->items.find(name + "/");
  if (other != folder->items.end() && other->second.mode != 0)
    throw FormatError("path '" + printable(path) + "': is a folder; remove it first");
  Item& item = folder->items[name];
  uint32_t before = item.mode ? item.mode : item.mode_before;
  item.mode = is_regular(before) ? before : kFile;  // an executable file stays one
  item.oid = blob;
}

void TreeEditor::remove_file(const std::string& path) {
  std::string name;
  Folder* folder = enter(path, false, name);
  auto found = folder ? folder->items.find(name) : root_.items.end();
  if (!folder || found == folder->items.end() || found->second.mode == 0)
    throw MissingPath("file '" + printable(path) + "': does not exist, cannot be removed");
  found->second.mode = 0;
}

void TreeEditor::remove_folder(const std::string& path) {
  std::string name;
  Folder* folder = enter(path, false, name);
  auto found = folder ? folder->items.find(name + "/") : root_.items.end();
  if (!folder || found == folder->items.end() || found->second.mode == 0)
    throw MissingPath("folder '" + printable(path) + "': does not exist, cannot be removed");
  Item& item = found->second;
  if (!item.open) {
    item.open = std::make_shared<Folder>();
    read(*item.open, item.oid);
  }
  // What it held stays known, so that adding the same again is no change.
  std::vector<Folder*> open = {item.open.get()};
  while (!open.empty()) {
    Folder* next = open.back();
    open.pop_back();
    for (auto& [key, child] : next->items) {
      if (child.mode == kFolder && !child.open) {
        child.open = std::make_shared<Folder>();
        read(*child.open, child.oid);
      }
      if (child.open) open.push_back(child.open.get());
      child.mode = 0;
    }
  }
  item.mode = 0;
}

// The folder's bytes; "" where nothing is left in it.
std::string TreeEditor::write_folder(Folder& folder, const std::string& path, Written& written) {
  std::string bytes;
  bytes.reserve(folder.items.size() * 48);
  for (auto& [key, item] : folder.items) {
    if (item.mode == 0) continue;
    std::string_view name = key;
    if (item.mode == kFolder) name.remove_suffix(1);
    if (item.open) {
      std::string below = write_folder(*item.open, join_path(path, name), written);
      if (below.empty()) continue;
      item.oid = hash_object(GIT_OBJECT_TREE, below);
      if (item.mode_before == 0 || !git_oid_equal(&item.oid, &item.oid_before))
        written.trees.emplace_back(item.oid, std::move(below));
    }
    if (item.mode != item.mode_before || !git_oid_equal(&item.oid, &item.oid_before))
      written.changed.emplace_back(path, name);
    bytes += octal(item.mode);
    bytes += ' ';
    bytes += name;
    bytes += '\0';
    bytes.append(reinterpret_cast<const char*>(item.oid.id), GIT_OID_RAWSZ);
  }
  return bytes;
}

TreeEditor::Written TreeEditor::write() {
  Written written;
  std::string bytes = write_folder(root_, "", written);
  written.root = hash_object(GIT_OBJECT_TREE, bytes);
  written.trees.emplace_back(written.root, std::move(bytes));
  return written;
}

}  // namespace pretrained::server
