{{/* What Pods of proxy and control have in common. */}}

{{- define "understudy.pod-security" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile: { type: RuntimeDefault }
{{- end -}}

{{- define "understudy.container-security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: { drop: [ALL] }
seccompProfile: { type: RuntimeDefault }
{{- end -}}

{{/* Takes (dict "root" $ "part" "proxy"). */}}
{{- define "understudy.mounts" -}}
- { name: config, mountPath: /etc/understudy/config, readOnly: true }
- { name: token, mountPath: /etc/understudy/token, readOnly: true }
- { name: tls, mountPath: /etc/understudy/tls, readOnly: true }
- { name: data, mountPath: /var/lib/understudy }
{{- if and (eq .part "control") .root.Values.control.guard.tls.existingSecret }}
- { name: guard-tls, mountPath: /etc/understudy/guard, readOnly: true }
{{- end }}
{{- range .root.Values.secretMounts }}
- { name: {{ printf "secret-%s" . | quote }}, mountPath: {{ printf "/etc/understudy/secrets/%s" . | quote }}, readOnly: true }
{{- end }}
{{- if include "understudy.asks-api" . }}
- { name: api-token, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true }
{{- end }}
{{- if eq .part (include "understudy.snapshot-part" .root) }}
{{- if .root.Values.snapshots.ownRecipes }}
- { name: recipes, mountPath: /etc/understudy/recipes, readOnly: true }
{{- end }}
{{- end }}
{{- end -}}

{{/* Who it is, told to control when it registers. Takes the container's name. */}}
{{- define "understudy.pod-environment" -}}
- { name: UNDERSTUDY_POD_NAMESPACE, valueFrom: { fieldRef: { fieldPath: metadata.namespace } } }
- { name: UNDERSTUDY_POD_NAME, valueFrom: { fieldRef: { fieldPath: metadata.name } } }
- { name: UNDERSTUDY_POD_UID, valueFrom: { fieldRef: { fieldPath: metadata.uid } } }
- { name: UNDERSTUDY_CONTAINER, value: {{ . }} }
{{- end -}}

{{/* The volumes of those mounts, but for data. */}}
{{- define "understudy.volumes" -}}
- name: config
  configMap: { name: {{ include "understudy.fullname" .root }}-{{ .part }} }
- name: token
  secret: { secretName: {{ include "understudy.token-secret" .root }}, defaultMode: 0440, items: [{ key: token, path: token }] }
- name: tls
  secret: { secretName: {{ include "understudy.tls-secret" .root }}, defaultMode: 0440 }
{{- if and (eq .part "control") .root.Values.control.guard.tls.existingSecret }}
- name: guard-tls
  secret: { secretName: {{ .root.Values.control.guard.tls.existingSecret }}, defaultMode: 0440, items: [{ key: tls.crt, path: tls.crt }, { key: tls.key, path: tls.key }] }
{{- end }}
{{- range .root.Values.secretMounts }}
- name: {{ printf "secret-%s" . | quote }}
  secret: { secretName: {{ . | quote }}, defaultMode: 0440 }
{{- end }}
{{- if include "understudy.asks-api" . }}
{{ include "understudy.api-token" . }}
{{- end }}
{{- if eq .part (include "understudy.snapshot-part" .root) }}
{{- if .root.Values.snapshots.ownRecipes }}
- name: recipes
  configMap: { name: {{ include "understudy.fullname" .root }}-recipes }
{{- end }}
{{- end }}
{{- end -}}

{{/* The service account's token, for the one container that mounts it; it ends after an hour and is renewed. */}}
{{- define "understudy.api-token" -}}
- name: api-token
  projected:
    defaultMode: 0440
    sources:
      - serviceAccountToken: { path: token, expirationSeconds: 3600 }
      - configMap: { name: kube-root-ca.crt, items: [{ key: ca.crt, path: ca.crt }] }
      - downwardAPI: { items: [{ path: namespace, fieldRef: { fieldPath: metadata.namespace } }] }
{{- end -}}

{{/* Where Pods are put. Takes the part's values. */}}
{{- define "understudy.placement" -}}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- end -}}

{{- define "understudy.pull-secrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - { name: {{ . | quote }} }
{{- end }}
{{- end }}
{{- end -}}
