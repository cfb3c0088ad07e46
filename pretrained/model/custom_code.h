#pragma once
// The C++ classes a folder brings along: named by `auto_map_cpp` in its config.json, compiled once,
// loaded for good.

#include <map>
#include <memory>
#include <string>

#include "pretrained/base/files.h"
#include "pretrained/code/closure.h"
#include "pretrained/code/reference.h"
#include "pretrained/code/toolchain.h"
#include "pretrained/model/modeling.h"

namespace pretrained {

// The classes of one folder's code, by Auto class. Lives as long as the process.
class ClassTable {
 public:
  void add(const char* auto_class, const ConfigClass& config) { configs[auto_class] = &config; }
  void add(const char* auto_class, const ModelClass& model) { models[auto_class] = &model; }
  std::map<std::string, const ConfigClass*> configs;
  std::map<std::string, const ModelClass*> models;
  // What they were compiled from, for saving them again.
  code::Sources sources;
  std::map<std::string, code::Reference> references;
};

using AutoMap = std::map<std::string, code::Reference>;

// `auto_map_cpp` of a config, checked; empty where it has none.
PRETRAINED_API AutoMap read_auto_map(const Json& config, const std::string& source);

// What load_custom_code would compile and run, with the commit's author and date where the hub
// tells them.
CodeReview review_custom_code(const Located& model, const AutoMap& auto_map,
                              const FromPretrained& options);

// Reads, compiles and loads; code that `auto_map` finds in another repository is fetched at the
// commit it names. What runs are the bytes that options.trust_remote_code let pass. Throws
// UntrustedCode, NotFoundError for a dangling entry, CompileError. Two calls with the same bytes
// give the same table.
const ClassTable& load_custom_code(const Located& model, const AutoMap& auto_map,
                                   const FromPretrained& options);

// For code that this process must not run: the sources, and the compiled library as a sealed file
// in memory, not opened. Its entry fills a ClassTable.
inline constexpr auto kCustomCodeEntry = "pretrained_classes_v1";
struct CompiledCode {
  code::Sources sources;
  AutoMap auto_map;
  FileDescriptor library;
};
CompiledCode compile_custom_code(const Located& model, const AutoMap& auto_map,
                                 const FromPretrained& options);
// A class of such code, known by name only; it can be saved again with its sources.
const ModelClass& adopt_foreign_class(const CompiledCode& code, const code::Reference& reference,
                                      const std::string& auto_class, const ConfigClass& config,
                                      const std::vector<std::string>& inputs);

// The table a loaded class came from, or nullptr for a class of this program.
const ClassTable* find_custom_code(const ConfigClass& config_class);

// How shared code is compiled here.
code::Toolchain toolchain(const Notice& notice);

}  // namespace pretrained
