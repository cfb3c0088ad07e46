#pragma once
// A tree with changes applied one after the other; only folders on their paths are read and
// written.

#include <map>
#include <memory>

#include "server/git/objects.h"
#include "server/git/pack_writer.h"

namespace pretrained::server {

class TreeEditor {
 public:
  // `root` nothing: starts empty.
  TreeEditor(Objects& objects, const std::optional<git_oid>& root);
  // FormatError where a folder is in the file's place, or a file in the place of a folder above it.
  void add(const std::string& path, const git_oid& blob);
  // MissingPath (a NotFoundError).
  void remove_file(const std::string& path);
  void remove_folder(const std::string& path);

  // Tree objects that are new, with their bytes.
  struct Written {
    git_oid root;
    std::vector<std::pair<git_oid, std::string>> trees;
    std::vector<std::pair<std::string, std::string>> changed;  // (folder, name) added or changed
  };
  Written write();

 private:
  struct Folder;
  struct Item {
    uint32_t mode = 0;  // 0: not there (any more)
    git_oid oid{};
    uint32_t mode_before = 0;
    git_oid oid_before{};
    std::shared_ptr<Folder> open;  // read, and perhaps changed
  };
  // By name, folders with "/" behind it: this is git's order.
  struct Folder {
    std::map<std::string, Item> items;
  };
  void read(Folder& folder, const git_oid& tree);
  // The folder of `path`, and its last part. nullptr: there is no such folder and `make` is false.
  Folder* enter(const std::string& path, bool make, std::string& name);
  std::string write_folder(Folder& folder, const std::string& path, Written& written);

  Objects& objects_;
  Folder root_;
};

}  // namespace pretrained::server
