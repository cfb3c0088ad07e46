#pragma once
// How repositories and their entries look in JSON.

#include <set>
#include <string>
#include <vector>

#include "server/api/common.h"

namespace pretrained::server {

// Everything that the database knows of a repository: _id, id, author, private, gated, tags, … but
// not its commit and files.
Json::Object repo_facts(const Repo& repo);
// What `expand` names; 400 for what is no property of that type.
std::set<std::string> read_expand(const Request& request, const std::string& type);
// Exactly those properties, with _id and id; what the hub does not know of a repository is absent.
// "sha" and "siblings" are those of `revision`.
Json::Object expanded_facts(Services& services, const Repo& repo, const std::string& revision,
                            const std::set<std::string>& expand, bool blobs = false);

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
