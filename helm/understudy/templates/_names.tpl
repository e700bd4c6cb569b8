{{/* Names, labels and the image. */}}

{{- define "understudy.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Labels of every object; takes the root. */}}
{{- define "understudy.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{/* What selects the Pods of one part; takes (dict "root" $ "part" "proxy"). */}}
{{- define "understudy.selector" -}}
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end -}}

{{- define "understudy.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end -}}

{{- define "understudy.token-secret" -}}
{{- default (printf "%s-admin" (include "understudy.fullname" .)) .Values.admin.existingSecret -}}
{{- end -}}

{{- define "understudy.tls-secret" -}}
{{- default (printf "%s-admin-tls" (include "understudy.fullname" .)) .Values.admin.tls.existingSecret -}}
{{- end -}}

{{/* The namespaces in which the servers and their claims live, as JSON. */}}
{{- define "understudy.snapshot-namespaces" -}}
{{- default (list .Release.Namespace) .Values.snapshots.namespaces | uniq | toJson -}}
{{- end -}}

{{/* Which part asks the API server for snapshots: control, sidecar, or nobody. */}}
{{- define "understudy.snapshot-part" -}}
{{- if or .Values.snapshots.recipes .Values.snapshots.ownRecipes -}}
{{- if eq .Values.snapshots.by "agents" -}}sidecar{{- else -}}control{{- end -}}
{{- end -}}
{{- end -}}

{{/* Whether a part asks the API server: for snapshots, or control for the Pods of proxies. Takes (dict "root" $ "part" "proxy"). */}}
{{- define "understudy.asks-api" -}}
{{- if or (eq .part (include "understudy.snapshot-part" .root)) (and (eq .part "control") .root.Values.control.pods.enabled) -}}true{{- end -}}
{{- end -}}

{{- define "understudy.sidecar-account" -}}
{{- default (printf "%s-sidecar" (include "understudy.fullname" .)) .Values.sidecar.serviceAccountName -}}
{{- end -}}

{{/* The service account with the rights for snapshots. */}}
{{- define "understudy.snapshot-account" -}}
{{- if eq (include "understudy.snapshot-part" .) "sidecar" -}}
{{ include "understudy.sidecar-account" . }}
{{- else -}}
{{ include "understudy.fullname" . }}-control
{{- end -}}
{{- end -}}

{{/* The cluster's version: what is on by default differs. */}}
{{- define "understudy.kube-version" -}}
{{- default .Capabilities.KubeVersion.Version .Values.kubeVersion -}}
{{- end -}}

{{/* Of objects without a namespace. */}}
{{- define "understudy.cluster-name" -}}
{{- printf "%s-snapshots-%s" (include "understudy.fullname" .) .Release.Namespace | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* Of the right to look for Pods of proxies. */}}
{{- define "understudy.pods-name" -}}
{{- printf "%s-pods-%s" (include "understudy.fullname" .) .Release.Namespace | trunc 63 | trimSuffix "-" -}}
{{- end -}}
