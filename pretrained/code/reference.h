#pragma once
// A class reference in `auto_map_cpp`: "[org/repo@<40 hex
// digits>--]sub/dir/module.[namespace::]Class". Code of another repository must name a commit: a
// branch could change under the reader. The grammar leaves no room for paths that lead out ("..",
// absolute), for shell or C++ text, or for anything beyond ASCII.

#include <string>

#include "pretrained/base/export.h"

namespace pretrained::code {

struct PRETRAINED_API Reference {
  std::string repo, commit;  // both empty: the folder that names it
  std::string module;        // "sub/dir/modeling_resnet", without extension
  std::string class_name;    // "ns::ResnetModel"
  std::string text() const;
};

// `source` names the file for the message. Throws FormatError.
PRETRAINED_API Reference parse_reference(const std::string& text, const std::string& source);

}  // namespace pretrained::code
