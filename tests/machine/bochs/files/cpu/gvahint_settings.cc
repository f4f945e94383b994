// SPDX-License-Identifier: GPL-2.0
//
// Parses the environment; gvahint_settings.h says what there is.

#include "bochs.h"
#include "gvahint_settings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const profile_names[] = { "combined-only", "leaf-cached", "off" };

static void refuse(const char *variable, const char *value, const char *known)
{
  fprintf(stderr, "bochs: %s=%s is not known; use %s\n", variable, value, known);
  exit(2);
}

// An empty variable counts as one that is not set.
static const char *from_environment(const char *variable)
{
  const char *value = getenv(variable);
  return value && *value ? value : NULL;
}

static void parse_mask(GvahintSettings &settings, const char *list)
{
  while (*list) {
    const size_t length = strcspn(list, ",");
    if (length == 15 && ! strncmp(list, "no-invvpid-addr", length))
      settings.mask_invvpid_address = true;
    else if (length == 9 && ! strncmp(list, "no-ept-ad", length))
      settings.mask_ept_ad = true;
    else
      refuse("GVAHINT_MASK", list, "a comma list of no-invvpid-addr, no-ept-ad");
    list += length + (list[length] == ',');
  }
}

static GvahintSettings parse(void)
{
  GvahintSettings settings;
  const char *value;

  settings.profile = GvahintSettings::COMBINED_ONLY;
  value = from_environment("GVAHINT_PROFILE");
  if (value) {
    unsigned n = 0;
    while (n < 3 && strcmp(value, profile_names[n])) n++;
    if (n == 3) refuse("GVAHINT_PROFILE", value, "combined-only, leaf-cached or off");
    settings.profile = (GvahintSettings::Profile) n;
  }

  settings.small_tlb = false;
  value = from_environment("GVAHINT_TLB");
  if (value) {
    settings.small_tlb = ! strcmp(value, "small");
    if (! settings.small_tlb && strcmp(value, "large"))
      refuse("GVAHINT_TLB", value, "large or small");
  }

  settings.mask_invvpid_address = settings.mask_ept_ad = false;
  value = from_environment("GVAHINT_MASK");
  if (value) parse_mask(settings, value);

  settings.status_file = from_environment("GVAHINT_STATUS");
  settings.counters_file = from_environment("GVAHINT_COUNTERS");
  return settings;
}

const GvahintSettings &gvahint_settings()
{
  static const GvahintSettings settings = parse();
  return settings;
}

const char *GvahintSettings::profile_name() const
{
  return profile_names[profile];
}
