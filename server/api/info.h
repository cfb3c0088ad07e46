#pragma once
// How repositories and their entries look in JSON.

#include <string>
#include <vector>

#include "server/api/common.h"

namespace pretrained::server {

// Everything that the database knows of a repository: _id, id, author, private, gated, tags, … but
// not its commit and files.
Json::Object repo_facts(const Repo& repo);

// An entry as git has it, with what large objects add.
struct FileFacts {
  TreeEntry entry;
  std::optional<LfsPointer> pointer;
  std::optional<ContentObject> object;  // of the pointer, where it is stored
  uint64_t size() const { return pointer ? pointer->size : entry.size; }
};
// Looks up the pointers' objects together.
std::vector<FileFacts> file_facts(Services& services, const Repo& repo, GitView& view,
                                  const std::vector<TreeEntry>& entries);

}  // namespace pretrained::server
