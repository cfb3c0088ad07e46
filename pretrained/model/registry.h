#pragma once
// Which classes stand behind names: those the user registered for Auto classes (register_), and
// those marked to be shared (register_for_auto_class). Process-wide; every function may be called
// from any thread.

#include <string>
#include <vector>

#include "pretrained/model/modeling.h"

namespace pretrained::registry {

// Throws ArgumentError where the name is taken, unless exist_ok.
PRETRAINED_API void add_config(const std::string& model_type, const ConfigClass& config_class,
                               bool exist_ok);
PRETRAINED_API void add_model(const std::string& auto_class, const ConfigClass& config_class,
                              const ModelClass& model_class, bool exist_ok);
// True where something was removed.
PRETRAINED_API bool remove_config(const std::string& model_type);
PRETRAINED_API bool remove_model(const std::string& auto_class,
                                 const std::string& config_class_name);

// nullptr where nothing is registered.
PRETRAINED_API const ConfigClass* find_config(const std::string& model_type);
PRETRAINED_API const ModelClass* find_model(const std::string& auto_class,
                                            const std::string& config_class_name);

// Makes the name of an Auto class known, so that register_for_auto_class("AutoModelFor…") takes it.
PRETRAINED_API void declare_auto_class(const std::string& auto_class);

// A class marked by register_for_auto_class; `model` is nullptr for a config.
struct Shared {
  std::string auto_class;
  const ConfigClass* config;
  const ModelClass* model;
};
// All marked classes of one config class, the config itself included, in the order of their Auto
// classes' names.
PRETRAINED_API std::vector<Shared> shared_classes(const ConfigClass& config_class);

}  // namespace pretrained::registry
