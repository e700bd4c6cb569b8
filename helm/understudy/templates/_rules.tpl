{{/*
All rights, as JSON {"namespaces": {name: [rule]}, "cluster": [rule]}: of the recipes in use, of the search from an address to its
volume, of restore, and of the Lease by which sidecars agree.
*/}}
{{- define "understudy.rules" -}}
{{- $snapshots := .Values.snapshots -}}
{{- $homes := include "understudy.snapshot-namespaces" . | fromJsonArray -}}
{{- $namespaces := dict -}}
{{- $cluster := list -}}
{{- range $rule := (include "understudy.wanted" . | fromJsonArray) -}}
{{- $plain := pick $rule "apiGroups" "resources" "verbs" "resourceNames" -}}
{{- if eq $rule.scope "cluster" -}}
{{- $cluster = append $cluster $plain -}}
{{- else -}}
{{- $where := $homes -}}
{{- if eq $rule.scope "verify" -}}{{- $where = without (list $snapshots.verify.namespace) "" -}}{{- end -}}
{{- if $rule.namespace -}}{{- $where = list $rule.namespace -}}{{- end -}}
{{- range $namespace := $where -}}
{{- $known := default list (get $namespaces $namespace) -}}
{{- if not (has $plain $known) -}}
{{- $_ := set $namespaces $namespace (append $known $plain) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- dict "namespaces" $namespaces "cluster" (uniq $cluster) | toJson -}}
{{- end -}}

{{/* Every rule with its scope, as a JSON array. */}}
{{- define "understudy.wanted" -}}
{{- $snapshots := .Values.snapshots -}}
{{- $known := .Files.Get "files/recipes-rbac.yaml" | fromYaml -}}
{{- $wanted := list
  (dict "scope" "namespace" "apiGroups" (list "") "resources" (list "services" "endpoints" "pods" "persistentvolumeclaims") "verbs" (list "get" "list" "watch"))
  (dict "scope" "namespace" "apiGroups" (list "discovery.k8s.io") "resources" (list "endpointslices") "verbs" (list "get" "list" "watch"))
  (dict "scope" "namespace" "apiGroups" (list "") "resources" (list "events") "verbs" (list "list" "watch"))
  (dict "scope" "cluster" "apiGroups" (list "") "resources" (list "persistentvolumes") "verbs" (list "get")) -}}
{{- /* Records and the Lease are in kubernetes.namespace: the sidecars of a pool meet there, wherever their Pods are. */ -}}
{{- $ours := include "understudy.snapshot-namespaces" . | fromJsonArray | first -}}
{{- $wanted = append $wanted (dict "scope" "namespace" "namespace" $ours "apiGroups" (list "") "resources" (list "configmaps") "verbs" (list "get" "list" "create" "patch" "delete")) -}}
{{- if eq $snapshots.by "agents" -}}
{{- $wanted = append $wanted (dict "scope" "namespace" "namespace" $ours "apiGroups" (list "coordination.k8s.io") "resources" (list "leases") "verbs" (list "get" "list" "watch" "create" "update" "patch")) -}}
{{- end -}}
{{- if $snapshots.restore -}}
{{- $wanted = append $wanted (dict "scope" "namespace" "apiGroups" (list "") "resources" (list "persistentvolumeclaims") "verbs" (list "create" "delete")) -}}
{{- $wanted = append $wanted (dict "scope" "namespace" "apiGroups" (list "batch") "resources" (list "jobs") "verbs" (list "get" "list" "watch" "create" "delete")) -}}
{{- /* Where systems restore to that restore claims under the names that they had; nothing else is done there. */ -}}
{{- if $snapshots.verify.namespace -}}
{{- $wanted = append $wanted (dict "scope" "verify" "apiGroups" (list "") "resources" (list "persistentvolumeclaims") "verbs" (list "get" "patch" "delete")) -}}
{{- $wanted = append $wanted (dict "scope" "verify" "apiGroups" (list "") "resources" (list "pods" "events") "verbs" (list "list")) -}}
{{- $wanted = append $wanted (dict "scope" "verify" "apiGroups" (list "batch") "resources" (list "jobs") "verbs" (list "get" "list" "watch" "create" "delete")) -}}
{{- end -}}
{{- end -}}
{{- range $recipe := $snapshots.recipes -}}
{{- range $rule := default list (get $known $recipe) -}}
{{- if and (or (ne $rule.for "restore") $snapshots.restore) (or (ne $rule.scope "verify") $snapshots.verify.namespace) -}}
{{- $home := dig $recipe (default "" $rule.param) "" $snapshots.params -}}
{{- if $home -}}{{- $rule = set (deepCopy $rule) "namespace" $home -}}{{- end -}}
{{- if $rule.names -}}{{- $rule = set (deepCopy $rule) "resourceNames" (list (dig $recipe $rule.names "" $snapshots.params)) -}}{{- end -}}
{{- $wanted = append $wanted $rule -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- concat $wanted $snapshots.ownRules | toJson -}}
{{- end -}}
